"""Layers: plain modules, known to no registry."""

from .ablations import (
    GainedFFN,
    GainedSelfAttention,
    ShiftedFFN,
    ShiftedSignedFFN,
)
from .attention import SelfAttention
from .encoder_layer import EncoderLayer, TiedEncoderLayer
from .mlp import GELU_FORMS, SignedFFN, TiedFFN, init_ffn, untied_ffn
from .packed import PackedModule, checked_once, pack_weights, unpack_weights
from .sharing import share
from .tied_attention import LikeTiedSelfAttention, TiedSelfAttention
from .tied_linear import RepeatedLinear, TiedLinear

__all__ = [
    'GELU_FORMS',
    'EncoderLayer',
    'GainedFFN',
    'GainedSelfAttention',
    'LikeTiedSelfAttention',
    'PackedModule',
    'RepeatedLinear',
    'SelfAttention',
    'ShiftedFFN',
    'ShiftedSignedFFN',
    'SignedFFN',
    'TiedEncoderLayer',
    'TiedFFN',
    'TiedLinear',
    'TiedSelfAttention',
    'checked_once',
    'init_ffn',
    'pack_weights',
    'share',
    'unpack_weights',
    'untied_ffn',
]
