"""The mark by which checkpoints of different tyings are told apart."""

import torch
from mmengine.logging import print_log
from torch import nn

#: What needs no mark: its parameters have names of their own.
_UNTIED = 'untied'


class VariantMark(nn.Module):
    """A backbone that refuses checkpoints of another variant.

    Parameters of different tyings may have the same names and shapes. A
    buffer of a few bytes, ``variant``, names the tying of the FFN, that of
    attention where it is not the paper's, and the factor of attention's
    scores where there is one, as in ``signed+like+tau3``.
    """

    def mark_variant(self) -> None:
        """Read the variant off the first layer, and register the buffer."""
        layer = next(iter(self.layers), None)
        attn, ffn = (getattr(layer, name, None) for name in ('attn', 'ffn'))
        # Kept as text, too: a buffer on the meta device holds nothing.
        self._variant = getattr(ffn, 'variant', _UNTIED)
        self._variant += getattr(attn, 'variant', '')
        is_marked = self._variant != _UNTIED
        buffer = _to_buffer(self._variant) if is_marked else None
        self.register_buffer('variant', buffer)

    def adapt_state_dict(
        self, state_dict: dict, prefix: str = '', own: bool = False
    ) -> None:
        """Fit a checkpoint and check its variant, in place.

        Args:
            state_dict: Of a ViT; changed. Without a mark it is taken for one
                of this model, which is said.
            prefix: What this backbone's keys start with.
            own: As for :class:`.PositionEmbeddings`.

        Raises:
            ValueError: As for :class:`.PositionEmbeddings`, and if the
                checkpoint is of another variant.
        """
        super().adapt_state_dict(state_dict, prefix, own)
        key, here = f'{prefix}variant', self._variant
        if key in state_dict:
            there = _to_text(state_dict[key])
            if there != here:
                hint = ''
                if here.replace('+like', '') == there:
                    signed = there.startswith('signed')
                    name = ' (HaLViT±, version 1)' if signed else ''
                    hint = f", here attn='paper'{name}"
                raise ValueError(
                    f'the checkpoint is of the variant {there!r}, this one '
                    f'is {here!r}: set type, attn, gain, hidden_shift and '
                    f'attention_scale as in its training{hint}'
                )
        elif here != _UNTIED and any(
            name.startswith(f'{prefix}layers.') for name in state_dict
        ):
            state_dict[key] = _to_buffer(here)
            print_log(
                'the checkpoint does not say of which variant it is: taken '
                f'for {here!r}, as this model',
                logger='current',
            )


def _to_buffer(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode().ljust(32)), dtype=torch.uint8)


def _to_text(buffer: torch.Tensor) -> str:
    return bytes(buffer.tolist()).decode().strip()
