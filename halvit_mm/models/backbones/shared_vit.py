"""ViTs whose layers share weights with each other.

What is shared is registered once, by the backbone; the layers refer to it,
see :mod:`halvit_mm.models.layers.sharing`.
"""

from typing import Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from ...registry import MODELS
from ..layers import EncoderLayer, TiedEncoderLayer, TiedLinear, init_ffn
from ..layers.sharing import are_untouched, share
from ..layers.tied_linear import tied_linear_in
from .halvit import HaLViT
from .plain_vit import PlainViT

__all__ = ['GroupedMLPViT', 'SharedHaLViT']


class _SharingViT(PlainViT):
    """A ViT whose layers borrow modules from owners that it registers."""

    def _share(self) -> None:
        """Let all layers refer to what their owners have now."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> '_SharingViT':
        """Set the mode; the layers' references are refreshed."""
        self._share()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Extract features as :class:`PlainViT` does.

        A child that was replaced at its owner, by an adapter for example,
        reaches the layers that borrow it.
        """
        if not torch.compiler.is_compiling():
            self._share()
        return super().forward(x)

    def _last_user(self, name: str) -> Optional[int]:
        """Find the last layer that uses a parameter of several layers.

        Args:
            name: Name of the parameter in this backbone.

        Returns:
            Index of the layer, or None for a parameter of one layer.
        """
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

    Args:
        args, kwargs: As for :class:`HaLViT`.
        share_vectors: Whether norms and biases are shared as well; without,
            every layer has its own (10,891,008 parameters).

    Raises:
        ValueError: As for :class:`HaLViT`, and if only some of the layers
            are to be frozen.
    """

    def __init__(self, *args, share_vectors: bool = True, **kwargs) -> None:
        self.share_vectors = share_vectors
        super().__init__(*args, **kwargs)

    def _build_layers(self, layer_cfgs: Sequence[dict]) -> None:
        super()._build_layers(layer_cfgs)
        self.shared = shared = TiedEncoderLayer(**layer_cfgs[0])
        shared.num_sharers = len(layer_cfgs)
        shared.attn.q.weight = shared.attn.q.bias = None  # each has its own
        if not self.share_vectors:
            matrices = (shared.attn.kv, shared.ffn.tied)
            for module in shared.modules():
                for name in list(module._parameters):
                    if name != 'weight' or module not in matrices:
                        module.register_parameter(name, None)
            for layer in self.layers:
                layer.attn.kv.share_matrix(shared.attn.kv)
                layer.ffn.tied.share_matrix(shared.ffn.tied)
        self._share()

    def _share(self) -> None:
        shared = self.shared
        if not self.share_vectors:  # matrices are read through their owners
            for name in ('attn.kv', 'ffn.tied'):
                owner = shared.get_submodule(name)
                if not are_untouched(TiedLinear.forward, owner):
                    raise ValueError(
                        f'shared.{name} gives its matrix only, it is never '
                        'called: hooks and adapters go to the layers'
                    )
            return
        for layer in self.layers:
            for name in ('ln1', 'ln2', 'ffn'):
                share(layer, name, shared)
            for name in ('kv', 'gain'):
                if name in shared.attn._modules:
                    share(layer.attn, name, shared.attn)
            q, owner = layer.attn.q, shared.attn.q
            share(tied_linear_in(q), 'transposed', tied_linear_in(owner))

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


class _SharedFFN(BaseModule):
    """Owns the FFN that a group of layers borrows.

    Args:
        layer: The first layer of the group, which gives its FFN.
        num_sharers: Layers of the group.
    """

    def __init__(self, layer: EncoderLayer, num_sharers: int) -> None:
        super().__init__()
        self.ffn = layer.ffn
        self.ffn_init_scale = layer.ffn_init_scale
        self.num_sharers = num_sharers

    def init_weights(self) -> None:
        """Initialise as an :class:`EncoderLayer` does."""
        super().init_weights()
        init_ffn(self.ffn, self.ffn_init_scale)


@MODELS.register_module()
class GroupedMLPViT(_SharingViT):
    """GroupedMLP: consecutive layers share one FFN.

    Each group of layers has one module for its FFN; norms, attention and
    everything else are the layers' own. ViT-B/16 in pairs has 58,233,064
    parameters with a head of 1,000 classes. Its sibling ShallowMLP, an FFN
    of half the hidden width, is an ``arch`` of :class:`PlainViT`.

    Args:
        args, kwargs: As for :class:`PlainViT`.
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
            _SharedFFN(layer, num_sharers=size)
            for layer in self.layers[::size]
        )
        self._share()

    def _share(self) -> None:
        for i, layer in enumerate(self.layers):
            share(layer, 'ffn', self.groups[i // self.group_size])

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
