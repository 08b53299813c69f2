"""ViTs whose layers share weights with each other.

What is shared is registered once, by the backbone, and handed to the layers
as they are called.
"""

from typing import Optional, Sequence, Tuple

from mmengine.model import ModuleList
from torch import nn

from ...registry import MODELS
from ..layers import FFNHolder, TiedEncoderLayer, keep_parameters
from .halvit import HaLViT
from .plain_vit import PlainViT

__all__ = ['GroupedMLPViT', 'SharedHaLViT']


class _SharingViT(PlainViT):
    """What has to do with weights of several layers."""

    def _last_user(self, name: str) -> Optional[int]:
        """Args: name: Of a parameter. Returns: Index of a layer, or None."""
        raise NotImplementedError

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Depth of a parameter, for layer-wise learning rates.

        Args:
            param_name: Its name in the model.
            prefix: What this backbone's names start with.

        Returns:
            Its depth, of a shared one that of the last layer which uses it,
            and the number of depths.
        """
        last = self._last_user(param_name[len(prefix) :])
        if last is None:
            return super().get_layer_depth(param_name, prefix)
        return last + 1, self.num_layers + 2


@MODELS.register_module()
class SharedHaLViT(_SharingViT, HaLViT):
    """HaLViT-M* (Koyun and Toereyin, 2024), Sec. 3.1 and Table 3.

    All layers share everything but the query matrix and its bias: the
    key-value matrix, the FFN, the other biases and the norms. ``'medium'``
    has 10,789,632 parameters (the paper prints 9.0 M, which its dimensions
    do not give: the matrices alone are 10,027,008).

    Args: As for :class:`HaLViT`, and
        share_vectors: Whether norms and biases are shared as well; without,
            every layer has its own (10,891,008 parameters).

    Raises:
        ValueError: As for :class:`HaLViT`, and if only some of the layers
            are to be frozen.
    """

    def __init__(self, *args, share_vectors: bool = True, **kwargs) -> None:
        self.share_vectors = share_vectors
        super().__init__(*args, **kwargs)

    def _is_own(self, name: str) -> bool:
        """Whether each layer has a parameter of this name for itself."""
        if name in ('attn.q.weight', 'attn.q.bias'):
            return True
        is_matrix = name in ('attn.kv.weight', 'ffn.tied.weight')
        return not (is_matrix or self.share_vectors)

    def _build_layers(self, layer_cfgs: Sequence[dict]) -> None:
        super()._build_layers(layer_cfgs)
        for layer in self.layers:
            keep_parameters(layer, self._is_own)
        shared = TiedEncoderLayer(**layer_cfgs[0])
        self.shared = keep_parameters(shared, lambda n: not self._is_own(n))
        self.shared.num_sharers = len(layer_cfgs)

    def _shared_with(self, index: int) -> Tuple[nn.Module, ...]:
        return (self.shared,)

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


@MODELS.register_module()
class GroupedMLPViT(_SharingViT):
    """GroupedMLP: consecutive layers share one FFN.

    Each group of layers has one module for its FFN; norms, attention and
    everything else are the layers' own. ViT-B/16 in pairs has 58,233,064
    parameters with a head of 1,000 classes. Its sibling ShallowMLP, an FFN
    of half the hidden width, is an ``arch`` of :class:`PlainViT`.

    Args: As for :class:`PlainViT`, and
        group_size: Layers that share one FFN.

    Raises:
        ValueError: As for :class:`PlainViT`, if the groups do not divide the
            layers, or if only some layers of a group are to be frozen.
    """

    def __init__(self, *args, group_size: int = 2, **kwargs) -> None:
        self.group_size = group_size
        super().__init__(*args, **kwargs)

    def _build_layers(self, layer_cfgs: Sequence[dict]) -> None:
        size = self.group_size
        if size < 1 or len(layer_cfgs) % size:
            raise ValueError(
                f'group_size={size} does not divide {len(layer_cfgs)} layers'
            )
        super()._build_layers(layer_cfgs)
        self.groups = ModuleList(
            FFNHolder(layer.ffn, layer.ffn_init_scale)
            for layer in self.layers[::size]
        )
        for group in self.groups:
            group.num_sharers = size
        for layer in self.layers:
            layer.ffn = None

    def _shared_with(self, index: int) -> Tuple[nn.Module, ...]:
        return (self.groups[index // self.group_size],)

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
