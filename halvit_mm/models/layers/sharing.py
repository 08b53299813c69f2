"""Modules and weights that several layers share.

What is shared is registered once, by its owner. A layer that borrows it holds
an unregistered reference, so that the state dict, optimisers and counts see
every weight under one name, while ``forward`` reads ``self.ffn`` as ever.

A deep copy or a pickle of the whole backbone keeps the references. A deep
copy of one borrowing layer alone takes a copy of the borrowed module along,
which is again unregistered: the copied layer computes the same, but its
``parameters()`` lack the borrowed weights.
"""

from typing import Callable

from torch import nn

__all__ = ['are_untouched', 'owns', 'share']


def share(borrower: nn.Module, name: str, owner: nn.Module) -> None:
    """Let a module use a child of another one as its own.

    Args:
        borrower: Its child ``name`` is dropped; the attribute then refers to
            the owner's. Sharing again refreshes the reference, for example
            after the owner's child has been replaced.
        name: Name of the child in both modules.
        owner: Has the child registered.
    """
    borrower._modules.pop(name, None)
    # nn.Module.__setattr__ would register it a second time
    borrower.__dict__[name] = getattr(owner, name)


def owns(module: nn.Module, name: str) -> bool:
    """Tell whether a child or parameter is registered in a module itself.

    Args:
        module: The module.
        name: Name of a child or of a parameter.

    Returns:
        False where it is missing, None, or borrowed from another module.
    """
    found = module._modules.get(name), module._parameters.get(name)
    return any(x is not None for x in found)


def are_untouched(forward: Callable, *modules: nn.Module) -> bool:
    """Tell whether a fused operator may compute in the place of modules.

    Pruning, ``weight_norm``, ``spectral_norm`` and profilers work by hooks,
    adapters such as LoRA replace the module: then it has to be called.

    Args:
        forward: The function that each module's class has as ``forward``.
        modules: Modules that the operator would bypass.

    Returns:
        True if no hook is attached to any of them and ``forward`` is what
        a call of each would run.
    """
    for module in modules:
        if (
            type(module).forward is not forward
            or 'forward' in module.__dict__
            or module._forward_pre_hooks
            or module._forward_hooks
            or module._backward_pre_hooks
            or module._backward_hooks
        ):
            return False
    return True
