"""Where operators may compute in the place of modules."""

from typing import Tuple

from torch import nn
from torch.nn.modules import module as torch_module

from .tied_linear import SecondMap, TiedLinear


def are_untouched(*modules: Tuple[nn.Module, type]) -> bool:
    """Tell whether a fused operator may compute in the place of modules.

    Pruning, ``weight_norm``, ``spectral_norm`` and profilers work by hooks,
    adapters such as LoRA replace the module: then it has to be called.

    Args:
        modules: Modules that the operator would bypass, each with its class.
            A :class:`TiedLinear` stands for its second map as well.

    Returns:
        True if no hook is attached to any of them, or to all modules there
        are, and a call of each would run ``forward`` of that class.
    """
    if torch_module._has_any_global_hook():
        return False
    for module, cls in modules:
        while module is not None:
            if (
                type(module).forward is not cls.forward
                or 'forward' in module.__dict__
                or module._forward_pre_hooks
                or module._forward_hooks
                or module._backward_pre_hooks
                or module._backward_hooks
            ):
                return False
            if cls is TiedLinear:
                module, cls = module.transposed, SecondMap
            else:
                module = None
    return True
