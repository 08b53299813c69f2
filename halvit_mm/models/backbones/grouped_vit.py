"""ViTs of which neighbouring layers share attention, FFN or both."""

from typing import Optional, Sequence

from ...registry import MODELS
from ..layers import EncoderLayer, share
from .halvit import HaLViT
from .sharing_vit import (
    Groups,
    Owner,
    SharingViT,
    matrices_of,
    share_matrices,
)

_PARTS = ('attn', 'ffn')


@MODELS.register_module()
class GroupedViT(SharingViT, HaLViT):
    """Consecutive layers share attention, the FFN or both, untied or tied.

    Norms are the layers' own. ``shares=('ffn',)`` is GroupedMLP: ViT-B/16 in
    pairs has 58,233,064 parameters with a head of 1,000 classes. Its sibling
    ShallowMLP, an FFN of half the hidden width, is an ``arch`` of
    :class:`PlainViT`. Both parts shared and ``share_vectors=False`` is what
    Liu et al. (2024, "MobileLLM") call immediate block-wise sharing, but for
    biases: ViT-B in pairs stores as much as HaLViT-M, 43,331,328.

    Args:
        args, kwargs: As for :class:`HaLViT`, and ``share_vectors``: whether
            the layers of a group share biases as well; without, every layer
            has its own.
        attn, gain: As for :class:`HaLViT`, untied by default. With half of
            the weights tied, ``attn='like', gain='signed'`` in pairs stores
            a quarter; ``attn='like', shares=('ffn',)`` stores as much as
            HaLViT.
        group_size: Layers that share.
        shares: What they share, of ``'attn'`` and ``'ffn'``.

    Raises:
        ValueError: As for :class:`HaLViT`, if the groups do not divide the
            layers, if layers that share attention attend in different
            windows, or if only some layers of a group are to be frozen.
    """

    def __init__(
        self,
        *args,
        attn: str = 'untied',
        gain: str = 'untied',
        group_size: int = 2,
        shares: Sequence[str] = _PARTS,
        **kwargs,
    ) -> None:
        if not shares or set(shares) - set(_PARTS):
            raise ValueError(f'shares={shares}: choose of {list(_PARTS)}')
        self.group_size = group_size
        self.shares = tuple(shares)
        if attn == gain == 'untied':
            self.layer_cls = EncoderLayer  # that of its untied twin
        super().__init__(*args, attn=attn, gain=gain, **kwargs)

    def _build_layers(self, layer_cfgs: Sequence[dict]) -> None:
        size = self.group_size
        if size < 1 or len(layer_cfgs) % size:
            raise ValueError(
                f'group_size={size} does not divide {len(layer_cfgs)} layers'
            )
        super()._build_layers(layer_cfgs)
        self.groups = Groups(map(self._owner_for, self.layers[::size]))
        matrices = {}  # a set that keeps the order
        for i, layer in enumerate(self.layers):
            owner = self.groups[i // size]
            if self.share_vectors:
                self._check_windows(i, layer, owner)
                share(layer, owner, *self.shares)
            else:
                for path in share_matrices(layer, owner):
                    matrices[f'groups.{i // size}.{path}'] = None
        self.matrices = list(matrices)

    def _owner_for(self, layer: EncoderLayer) -> Owner:
        parts = {name: getattr(layer, name) for name in self.shares}
        if not self.share_vectors:
            parts = {name: matrices_of(part) for name, part in parts.items()}
        return Owner(parts, layer.ffn_init_scale, self.group_size)

    def _check_windows(self, i: int, layer: EncoderLayer, owner) -> None:
        if (
            'attn' in self.shares
            and layer.attn.window_size != owner.attn.window_size
        ):
            raise ValueError(
                f'window_block_indexes: layer {i} shares attention with layer '
                f'{i - i % self.group_size}, but not its window_size; choose '
                'whole groups, or share_vectors=False'
            )

    def _last_user(self, name: str) -> Optional[int]:
        if not name.startswith('groups.'):
            return None
        return (int(name.split('.')[1]) + 1) * self.group_size - 1

    def _freeze_stages(self) -> None:
        size = self.group_size
        if self.frozen_stages % size:
            raise ValueError(
                f'frozen_stages={self.frozen_stages}: it is to be a multiple '
                f'of group_size={size}, for the layers of a group share '
                'weights'
            )
        super()._freeze_stages()
        for group in self.groups[: self.frozen_stages // size]:
            group.eval().requires_grad_(False)
