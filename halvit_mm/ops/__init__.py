"""The tied projections of HaLViT, as functions.

The layers call these names and know nothing of what runs behind them.
"""

from .reference import tied_ffn, tied_out, tied_qkv

__all__ = ['tied_ffn', 'tied_out', 'tied_qkv']
