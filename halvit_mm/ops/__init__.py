"""The tied projections of HaLViT, as functions.

The layers call these names and know nothing of what runs behind them: see
:func:`backend`.
"""

from . import flops
from .checks import compute_dtype, without_autocast
from .extension import backend, backend_reason, use
from .flops import jit_handles
from .packed import (
    graphs_version,
    invalidate_graphs,
    pack_qkv,
    packed_qkv,
)
from .tied_projection import (
    add_layer_norm,
    layer_norm,
    tied_ffn,
    tied_out,
    tied_qkv,
)

flops.register()

__all__ = [
    'add_layer_norm',
    'backend',
    'backend_reason',
    'compute_dtype',
    'jit_handles',
    'layer_norm',
    'invalidate_graphs',
    'pack_qkv',
    'packed_qkv',
    'tied_ffn',
    'tied_out',
    'tied_qkv',
    'use',
    'graphs_version',
    'without_autocast',
]
