"""The definitions of the operators, in plain PyTorch, by their names."""

from .add_layer_norm import definition as add_layer_norm
from .tied_ffn import definition as tied_ffn
from .tied_out import definition as tied_out
from .tied_qkv import definition as tied_qkv

__all__ = ['add_layer_norm', 'tied_ffn', 'tied_out', 'tied_qkv']
