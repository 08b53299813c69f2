"""HaLViT-M*: all layers share all but the query."""

from typing import Optional, Sequence

from torch import nn

from ...registry import MODELS
from ..layers import TiedEncoderLayer, share
from .halvit import HaLViT
from .sharing_vit import Owner, SharingViT, matrices_of, share_matrices


@MODELS.register_module()
class SharedHaLViT(SharingViT, HaLViT):
    """HaLViT-M* (Koyun and Toereyin, 2024), Sec. 3.1 and Table 3.

    All layers share everything but the query matrix and its bias: the
    key-value matrix, the FFN, the other biases and the norms. ``'medium'``
    has 10,789,632 parameters (the paper prints 9.0 M, which its dimensions
    do not give: the matrices alone are 10,027,008).

    Args:
        args, kwargs: As for :class:`HaLViT`.
        share_vectors: Whether norms and biases are shared as well; without,
            every layer has its own (10,891,008 parameters).

    Raises:
        ValueError: As for :class:`HaLViT`, if only some of the layers are to
            be frozen, and for another tying of attention than the paper's or
            an untied FFN.
    """

    def __init__(self, *args, **kwargs) -> None:
        attn, gain = kwargs.get('attn', 'paper'), kwargs.get('gain')
        if attn != 'paper' or gain == 'untied':
            raise ValueError(
                f'attn={attn!r}, gain={gain!r}: what SharedHaLViT shares are '
                "the paper's matrices"
            )
        super().__init__(*args, **kwargs)

    def _build_layers(self, layer_cfgs: Sequence[dict]) -> None:
        super()._build_layers(layer_cfgs)
        donor = TiedEncoderLayer(**layer_cfgs[0])
        attn = donor.attn
        if self.share_vectors:
            # Each layer has a query of its own: only its second bias is here.
            q = nn.ModuleDict({'transposed': attn.q.transposed})
            attn = nn.ModuleDict({**dict(attn.named_children()), 'q': q})
            parts = {**dict(donor.named_children()), 'attn': attn}
        else:
            attn, ffn = matrices_of(attn, 'kv'), matrices_of(donor.ffn)
            parts = {'attn': attn, 'ffn': ffn}
        self.shared = shared = Owner(
            parts, donor.ffn_init_scale, len(layer_cfgs)
        )
        names = [f'attn.{n}' for n in ('kv', 'gain') if n in shared.attn]
        for layer in self.layers:
            if self.share_vectors:
                share(layer, shared, 'ln1', 'ln2', 'ffn')
                share(layer.attn, shared, *names)
                share(layer.attn.q, shared, 'attn.q.transposed')
            else:
                paths = share_matrices(layer, shared)
                self.matrices = [f'shared.{path}' for path in paths]

    def _last_user(self, name: str) -> Optional[int]:
        return self.num_layers - 1 if name.startswith('shared.') else None

    def _freeze_stages(self) -> None:
        if self.frozen_stages < self.num_layers:
            raise ValueError(
                f'frozen_stages={self.frozen_stages}: all {self.num_layers} '
                'layers share weights, freeze all of them or none'
            )
        super()._freeze_stages()
        self.shared.eval().requires_grad_(False)
