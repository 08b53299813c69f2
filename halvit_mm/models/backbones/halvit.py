"""HaLViT: a plain ViT with half of the weights."""

from functools import partial
from typing import Callable, Optional

from ...registry import MODELS
from ..layers import (
    GainedFFN,
    GainedSelfAttention,
    LikeTiedSelfAttention,
    SelfAttention,
    ShiftedFFN,
    ShiftedSignedFFN,
    SignedFFN,
    TiedEncoderLayer,
    TiedFFN,
    TiedSelfAttention,
    untied_ffn,
)
from .plain_vit import PlainViT

# A new tying is a class and a row here.
# Name in a config -> the FFN, and the FFN where hidden units are shifted.
_FFNS = {
    'none': (TiedFFN, ShiftedFFN),
    'signed': (SignedFFN, ShiftedSignedFFN),
    'learnt': (GainedFFN, GainedFFN),
    'learnt_signed': (partial(GainedFFN, signed_start=True),) * 2,
    'untied': (untied_ffn, None),
}
_ATTENTIONS = {
    'paper': TiedSelfAttention,
    'like': LikeTiedSelfAttention,
    'untied': SelfAttention,
}
# Gains of attention's output, which belong to the paper's attention.
_OUT_GAINS = {
    'learnt': GainedSelfAttention,
    'learnt_signed': partial(GainedSelfAttention, signed_start=True),
}


def _choose(name: str, value: str, table: dict):
    if value not in table:
        raise ValueError(f'{name}={value!r}: choose one of {list(table)}')
    return table[value]


def _ffn_class(gain: str, hidden_shift: int) -> Callable:
    plain, shifted = _choose('gain', gain, _FFNS)
    if not hidden_shift:
        return plain
    if shifted is None:
        raise ValueError(
            f'hidden_shift={hidden_shift}: the FFN of gain={gain!r} has no '
            'matrix that is used twice'
        )
    return partial(shifted, hidden_shift=hidden_shift)


def _attention_class(attn: str, gain: str) -> Callable:
    cls = _choose('attn', attn, _ATTENTIONS)
    _choose('gain', gain, _FFNS)
    if gain in _OUT_GAINS and attn != 'paper':
        raise ValueError(
            f"out_gain={gain!r} is for attn='paper', not {attn!r}: set "
            "out_gain='none'"
        )
    return _OUT_GAINS.get(gain, cls)


@MODELS.register_module()
class HaLViT(PlainViT):
    """HaLViT (Koyun and Toereyin, 2024), Sec. 3.1 and Table 1.

    Every layer has two square matrices for attention and one for its FFN;
    each serves as itself and as its transpose. Patch embedding, position
    embeddings, norms and biases are those of the untied ViT. ``'tiny'`` has
    11,048,832 parameters and ``'medium'`` 43,331,328, without a head, at 224
    px with a cls token.

    A buffer, ``variant``, tells checkpoints of different tyings apart.

    Args:
        args, kwargs: As for :class:`PlainViT`.
        gain: What stands between both uses of the FFN's matrix: ``'none'``
            as in the paper; ``'signed'``, our own step beyond it, where the
            second half of the hidden units counts negative
            (:func:`halvit_mm.ops.reference.tied_ffn`): HaLViT+-, version 1
            with the paper's attention, version 2 with ``attn='like'``;
            ``'learnt'`` and
            ``'learnt_signed'`` for learnt factors of the hidden units and of
            attention's output that start at 1 or at those signs.
            ``'untied'`` is the FFN of the untied ViT.
        attn: What is tied in attention: ``'paper'`` ties the query with the
            output and the key with the value; ``'like'``, ours, the query
            with the key and the value with the output, see
            :class:`.LikeTiedSelfAttention`; ``'untied'`` nothing.
        out_gain: As ``gain``, for attention's output alone, where it is to
            differ.
        hidden_shift: Rows between both uses of the FFN's matrix, ours too:
            a hidden unit reads one row and writes another. With signs not
            half of the hidden units.

    Raises:
        ValueError: As for :class:`PlainViT`, for an unknown tying, for signs
            of an odd number of units, for gains or a shift of what is not
            there, and for ``layer_cfgs`` that choose another tying.
    """

    layer_cls = TiedEncoderLayer

    def __init__(
        self,
        *args,
        gain: str = 'none',
        attn: str = 'paper',
        out_gain: Optional[str] = None,
        hidden_shift: int = 0,
        **kwargs,
    ) -> None:
        if out_gain == 'signed':
            raise ValueError(
                "out_gain='signed': fixed signs are for hidden units only"
            )
        tying = dict(
            ffn_cls=_ffn_class(gain, hidden_shift),
            attn_cls=_attention_class(
                attn, gain if out_gain is None else out_gain
            ),
        )
        layer_cfgs = kwargs.pop('layer_cfgs', None) or {}
        if taken := [name for name in tying if name in layer_cfgs]:
            raise ValueError(
                f'layer_cfgs sets {taken}, which gain, attn, out_gain and '
                'hidden_shift choose: for other classes build a PlainViT '
                'whose layer_cls is TiedEncoderLayer'
            )
        super().__init__(*args, layer_cfgs={**layer_cfgs, **tying}, **kwargs)

    def adapt_state_dict(
        self, state_dict: dict, prefix: str = '', own: bool = False
    ) -> None:
        """Fit a checkpoint of a ViT, in place, see :class:`.VariantMark`.

        Raises:
            ValueError: As there, and if the checkpoint is of an untied ViT.
        """
        is_untied = any(hasattr(layer.attn, 'qkv') for layer in self.layers)
        if f'{prefix}layers.0.attn.qkv.weight' in state_dict and not is_untied:
            raise ValueError(
                f'these are weights of an untied ViT, which '
                f'{type(self).__name__} cannot take: its matrices are used '
                'twice. PlainViT takes them'
            )
        super().adapt_state_dict(state_dict, prefix, own)
