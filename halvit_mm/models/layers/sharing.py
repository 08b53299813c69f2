"""Modules and weights that several layers share.

What is shared is registered once, by its owner. A layer that borrows it holds
an unregistered reference to the owner and looks it up there at every access,
so that the state dict, optimisers and counts see every weight under one name,
``forward`` reads ``self.ffn`` as ever, and what replaces a child of the owner
(an adapter, a wrapper, another module) reaches all borrowers at once.

A deep copy or a pickle of the whole backbone keeps the references. A deep
copy of one borrowing layer alone takes a copy of the owner along, which is
again unregistered: the copied layer computes the same, but its
``parameters()`` lack the borrowed weights.
"""

import copyreg
from functools import cache
from operator import attrgetter
from types import SimpleNamespace
from typing import Tuple

from torch import nn


def share(borrower: nn.Module, owner: nn.Module, *paths: str) -> None:
    """Let a module use children or parameters of another one as its own.

    Args:
        borrower: Its own children or parameters of these names are dropped.
            Its class becomes a subclass that finds the owner's instead and
            refuses to have them set.
        owner: Has them registered.
        paths: Where they are in the owner, such as ``'ffn'`` or
            ``'attn.kv'``; the last part is the name in the borrower.

    Raises:
        AttributeError: If the owner lacks one of them.
        ValueError: If it is a parameter of another shape.
    """
    cls = type(borrower)
    base, borrowed = cls.__dict__.get('_made_of', (cls, ()))
    for path in paths:
        found = attrgetter(path)(owner)
        borrower._modules.pop(_name(path), None)
        own = borrower._parameters.pop(_name(path), None)
        if own is not None and own.shape != found.shape:
            raise ValueError(
                f'{path} of {tuple(found.shape)} cannot serve as a '
                f'{_name(path)} of {tuple(own.shape)}'
            )
    # In __dict__, for nn.Module.__setattr__ would register a module.
    owners = borrower.__dict__.setdefault('_owners', SimpleNamespace())
    vars(owners).update({_name(path): owner for path in paths})
    by_name = {_name(path): path for path in (*borrowed, *paths)}
    borrower.__class__ = _borrowing_class(base, tuple(by_name.values()))


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


def _name(path: str) -> str:
    return path.rpartition('.')[2]


class _Borrowed(property):
    """A child or parameter that is looked up in its owner at each access."""

    # Python calls the getter given to property(), which is written in C:
    # layers borrow several times a call. Dynamo cannot trace that one; it
    # traces what is found as ``fget``.
    fget = None

    def __init__(self, path: str) -> None:
        path = f'_owners.{_name(path)}.{path}'
        super().__init__(attrgetter(path))

        def look_up(found):
            for part in path.split('.'):
                found = getattr(found, part)
            return found

        self.fget = look_up


class _Borrower(nn.Module):
    """Base of the classes of modules that borrow."""

    #: Names of what is borrowed.
    borrowed: Tuple[str, ...] = ()

    def __setattr__(self, name: str, value) -> None:
        if name in self.borrowed:
            raise AttributeError(
                f'{type(self).__name__} borrows {name!r} from a module that '
                'shares it with others: replace it there, for all of them'
            )
        super().__setattr__(name, value)


@cache
def _borrowing_class(base: type, paths: Tuple[str, ...]) -> type:
    members = {_name(path): _Borrowed(path) for path in paths}
    cls = type(
        base.__name__,
        # Initialisers of the hosts look at immediate bases only.
        (_Borrower, base, *base.__bases__),
        dict(
            members,
            __doc__=base.__doc__,
            __module__=base.__module__,
            borrowed=tuple(members),
            _made_of=(base, paths),
        ),
    )
    copyreg.pickle(cls, _reduce)  # pickle does not find it by its name
    return cls


def _new_borrower(base: type, paths: Tuple[str, ...]) -> nn.Module:
    cls = _borrowing_class(base, paths)
    return cls.__new__(cls)


def _reduce(module: nn.Module) -> Tuple:
    return _new_borrower, type(module)._made_of, module.__reduce_ex__(2)[2]
