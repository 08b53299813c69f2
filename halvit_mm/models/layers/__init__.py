"""Layers: plain modules, known to no registry."""

from .attention import SelfAttention, TiedSelfAttention
from .encoder_layer import EncoderLayer, TiedEncoderLayer
from .mlp import GELU_FORMS, TiedFFN
from .prepared import PreparedModule, prepare, unprepare
from .tied_linear import TiedLinear

__all__ = [
    'GELU_FORMS',
    'EncoderLayer',
    'PreparedModule',
    'SelfAttention',
    'TiedEncoderLayer',
    'TiedFFN',
    'TiedLinear',
    'TiedSelfAttention',
    'prepare',
    'unprepare',
]
