"""Layers: plain modules, known to no registry."""

from .attention import SelfAttention, TiedSelfAttention
from .encoder_layer import EncoderLayer, FFNHolder, TiedEncoderLayer
from .gain import GAINS, LearntGain
from .mlp import GELU_FORMS, TiedFFN
from .prepared import PreparedModule, prepare, unprepare
from .sharing import keep_parameters
from .tied_linear import TiedLinear

__all__ = [
    'GAINS',
    'GELU_FORMS',
    'EncoderLayer',
    'FFNHolder',
    'LearntGain',
    'PreparedModule',
    'SelfAttention',
    'TiedEncoderLayer',
    'TiedFFN',
    'TiedLinear',
    'TiedSelfAttention',
    'keep_parameters',
    'prepare',
    'unprepare',
]
