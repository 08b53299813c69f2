"""HaLViT: a plain ViT with half of the weights."""

from typing import Optional

from ...registry import MODELS
from ..layers import TiedEncoderLayer
from .plain_vit import PlainViT

__all__ = ['HaLViT']


@MODELS.register_module()
class HaLViT(PlainViT):
    """HaLViT (Koyun and Toereyin, 2024), Sec. 3.1 and Table 1.

    Every layer has two square matrices for attention and one for its FFN;
    each serves as itself and as its transpose. Patch embedding, position
    embeddings, norms and biases are those of the untied ViT. ``'tiny'`` has
    11,048,832 parameters and ``'medium'`` 43,331,328, without a head, at 224
    px with a cls token.

    Args: As for :class:`PlainViT`, and
        gain: What stands between both uses of the FFN's matrix: ``'none'``
            as in the paper; ``'signed'`` for HaLViT+-, our own step beyond
            it, where the second half of the hidden units counts negative
            (:func:`halvit_mm.ops.reference.tied_ffn`); ``'learnt'`` and
            ``'learnt_signed'`` for learnt factors of the hidden units and of
            attention's output that start at 1 or at those signs.
        out_gain: The same for attention's output alone, where it is to
            differ.
        hidden_shift: Rows between both uses of the FFN's matrix, ours too:
            a hidden unit reads one row and writes another.

    Raises:
        ValueError: As for :class:`PlainViT`, for an unknown gain, and for
            signs of an odd number of units.
    """

    layer_cls = TiedEncoderLayer

    def __init__(
        self,
        *args,
        gain: str = 'none',
        out_gain: Optional[str] = None,
        hidden_shift: int = 0,
        **kwargs,
    ) -> None:
        layer_cfgs = dict(
            gain=gain,
            out_gain=out_gain,
            hidden_shift=hidden_shift,
            **(kwargs.pop('layer_cfgs', None) or {}),
        )
        super().__init__(*args, layer_cfgs=layer_cfgs, **kwargs)
