"""HaLViT: a plain ViT with half of the weights."""

from functools import partial
from typing import Optional

import torch
from mmengine.logging import print_log

from ...registry import MODELS
from ..layers import (
    GainedFFN,
    GainedSelfAttention,
    ShiftedFFN,
    ShiftedSignedFFN,
    SignedFFN,
    TiedEncoderLayer,
    TiedFFN,
    TiedSelfAttention,
)
from .plain_vit import PlainViT

# Name in a config -> the FFN, the FFN where hidden units are shifted, and
# the attention. A new tying is a class and a row here.
_TYINGS = {
    'none': (TiedFFN, ShiftedFFN, TiedSelfAttention),
    'signed': (SignedFFN, ShiftedSignedFFN, TiedSelfAttention),
    'learnt': (GainedFFN, GainedFFN, GainedSelfAttention),
    'learnt_signed': tuple(
        partial(cls, signed_start=True)
        for cls in (GainedFFN, GainedFFN, GainedSelfAttention)
    ),
}


@MODELS.register_module()
class HaLViT(PlainViT):
    """HaLViT (Koyun and Toereyin, 2024), Sec. 3.1 and Table 1.

    Every layer has two square matrices for attention and one for its FFN;
    each serves as itself and as its transpose. Patch embedding, position
    embeddings, norms and biases are those of the untied ViT. ``'tiny'`` has
    11,048,832 parameters and ``'medium'`` 43,331,328, without a head, at 224
    px with a cls token.

    A buffer, ``variant``, tells checkpoints of different tyings apart, for
    their parameters have the same names.

    Args:
        args, kwargs: As for :class:`PlainViT`.
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
        ValueError: As for :class:`PlainViT`, for an unknown gain, for signs
            of an odd number of units, and for ``layer_cfgs`` that choose
            another tying.
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
        if out_gain == 'signed':
            raise ValueError(
                "out_gain='signed': fixed signs are for hidden units only"
            )
        for name in filter(None, (gain, out_gain)):
            if name not in _TYINGS:
                raise ValueError(
                    f'gain={name!r}: choose one of {list(_TYINGS)}'
                )
        ffn_cls, shifted_cls, _ = _TYINGS[gain]
        if hidden_shift:
            ffn_cls = partial(shifted_cls, hidden_shift=hidden_shift)
        tying = dict(
            ffn_cls=ffn_cls,
            attn_cls=_TYINGS[gain if out_gain is None else out_gain][2],
        )
        layer_cfgs = kwargs.pop('layer_cfgs', None) or {}
        if taken := [name for name in tying if name in layer_cfgs]:
            raise ValueError(
                f'layer_cfgs sets {taken}, which gain, out_gain and '
                'hidden_shift choose: for other classes build a PlainViT '
                'whose layer_cls is TiedEncoderLayer'
            )
        super().__init__(*args, layer_cfgs={**layer_cfgs, **tying}, **kwargs)
        ffns = [layer.ffn for layer in self.layers]
        # Kept as text, too: a buffer on the meta device holds nothing.
        self._variant = getattr(ffns[0], 'variant', 'none') if ffns else 'none'
        self.register_buffer('variant', _to_buffer(self._variant))

    def adapt_state_dict(
        self, state_dict: dict, prefix: str = '', own: bool = False
    ) -> None:
        """Fit a checkpoint of a ViT and check its tying, in place.

        Args:
            state_dict: Of a ViT; changed. Without a mark of its tying it is
                taken for one of this model, which is said.
            prefix: What this backbone's keys start with.
            own: As for :class:`PlainViT`.

        Raises:
            ValueError: As for :class:`PlainViT`, and if the checkpoint is of
                another tying, or of none.
        """
        if f'{prefix}layers.0.attn.qkv.weight' in state_dict:
            raise ValueError(
                f'these are weights of an untied ViT, which '
                f'{type(self).__name__} cannot take: its matrices are used '
                'twice. PlainViT takes them'
            )
        super().adapt_state_dict(state_dict, prefix, own)
        key, here = f'{prefix}variant', self._variant
        if key in state_dict:
            there = _to_text(state_dict[key])
            if there != here:
                raise ValueError(
                    f'the checkpoint is of a HaLViT of the variant {there!r}, '
                    f'this one is {here!r}: set gain and hidden_shift as in '
                    'its training'
                )
        elif any(name.startswith(f'{prefix}layers.') for name in state_dict):
            state_dict[key] = _to_buffer(here)
            print_log(
                'the checkpoint does not say of which variant of HaLViT it '
                f'is: taken for {here!r}, as this model',
                logger='current',
            )


def _to_buffer(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode().ljust(32)), dtype=torch.uint8)


def _to_text(buffer: torch.Tensor) -> str:
    return bytes(buffer.tolist()).decode().strip()
