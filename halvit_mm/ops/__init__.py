"""The operators of HaLViT's layers, as functions.

Layers call these names only; :func:`backend` says which implementation runs.
This folder needs only PyTorch.
"""

from .add_layer_norm import add_layer_norm, layer_norm
from .checks import compute_dtype, without_autocast
from .choice import backend, backend_reason, use
from .flops import jit_handles
from .packed import (
    for_products,
    graphs_version,
    invalidate_graphs,
    pack_qkv,
    packed_qkv,
)
from .products import product_dtype
from .tied_ffn import tied_ffn
from .tied_out import tied_out
from .tied_qkv import tied_qkv

__all__ = [
    'add_layer_norm',
    'backend',
    'backend_reason',
    'compute_dtype',
    'for_products',
    'graphs_version',
    'invalidate_graphs',
    'jit_handles',
    'layer_norm',
    'pack_qkv',
    'packed_qkv',
    'product_dtype',
    'tied_ffn',
    'tied_out',
    'tied_qkv',
    'use',
    'without_autocast',
]
