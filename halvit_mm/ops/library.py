"""Registration of the operators: schema, fallback, shapes and gradients.

The fallback serves every device (``CompositeExplicitAutograd``); a compiled
library adds kernels for CUDA (:mod:`.extension`).
"""

from functools import wraps
from typing import Callable

import torch
from torch import Tensor

from . import autograd, shapes
from .checks import without_autocast
from .fallback import KERNELS
from .schemas import NAMESPACE, SCHEMAS


def _without_autocast(kernel: Callable) -> Callable:
    # The caller chose the dtypes; autocast would cast inside once more.
    @wraps(kernel)
    def call(*args):
        with without_autocast(next(a for a in args if isinstance(a, Tensor))):
            return kernel(*args)

    return call


def _register() -> torch.library.Library:
    library = torch.library.Library(NAMESPACE, 'DEF')
    for name, schema in SCHEMAS.items():
        qualified = f'{NAMESPACE}::{name}'
        library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        library.impl(
            name,
            _without_autocast(KERNELS[name]),
            'CompositeExplicitAutograd',
        )
        torch.library.register_fake(
            qualified, getattr(shapes, name), lib=library
        )
    for name in autograd.DIFFERENTIABLE:
        torch.library.register_autograd(
            f'{NAMESPACE}::{name}',
            getattr(autograd, f'{name}_backward'),
            setup_context=getattr(autograd, f'{name}_context'),
            lib=library,
        )
    return library


#: Kept alive: the operators go when it goes.
LIBRARY = _register()
