"""The operators of HaLViT's layers, as functions.

Layers call these names only; :func:`backend` says which implementation runs.
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
