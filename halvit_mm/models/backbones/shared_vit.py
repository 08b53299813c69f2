"""ViTs whose layers share weights with each other.

What is shared is registered once, by the backbone; the layers refer to it,
see :mod:`halvit_mm.models.layers.sharing`.
"""

from typing import Dict, Optional, Sequence, Tuple

from mmengine.model import ModuleDict, ModuleList
from torch import Tensor, nn

from ...registry import MODELS
from ..layers import TiedEncoderLayer, TiedLinear, init_ffn, share
from .halvit import HaLViT
from .plain_vit import PlainViT


class _Owner(ModuleDict):
    """Registers what layers borrow from it; it is never called itself.

    Args:
        parts: What is borrowed, with an ``ffn``.
        ffn_init_scale: Factor of the FFN's matrices at the start.
        num_sharers: Number of the layers.
    """

    def __init__(
        self, parts: Dict[str, nn.Module], ffn_init_scale: float, num_sharers
    ) -> None:
        super().__init__(parts)
        self.ffn_init_scale = ffn_init_scale
        self.num_sharers = num_sharers

    def init_weights(self) -> None:
        """Initialise as an :class:`.EncoderLayer` does."""
        super().init_weights()
        init_ffn(self.ffn, self.ffn_init_scale)


class _KeepsOwners(nn.Module):
    """Refuses to have its owners replaced: layers would keep the old ones."""

    def __setattr__(self, name: str, value) -> None:
        child = self.__dict__.get('_modules', {}).get(name)
        is_owner = isinstance(child, (_Owner, _Groups))
        if is_owner and value is not child:
            raise ValueError(
                f'{name!r} of {type(self).__name__} owns what layers borrow: '
                'wrap or replace what it holds, not itself'
            )
        super().__setattr__(name, value)


class _Groups(_KeepsOwners, ModuleList):
    """The owners of a backbone with several."""


class _SharingViT(_KeepsOwners, PlainViT):
    """A ViT whose layers borrow modules from owners that it registers."""

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
        ValueError: As for :class:`HaLViT`, if only some of the layers are to
            be frozen, and for another tying of attention than the paper's or
            an untied FFN.
    """

    def __init__(self, *args, share_vectors: bool = True, **kwargs) -> None:
        attn, gain = kwargs.get('attn', 'paper'), kwargs.get('gain')
        if attn != 'paper' or gain == 'untied':
            raise ValueError(
                f'attn={attn!r}, gain={gain!r}: what SharedHaLViT shares are '
                "the paper's matrices"
            )
        self.share_vectors = share_vectors
        super().__init__(*args, **kwargs)

    def _build_layers(self, layer_cfgs: Sequence[dict]) -> None:
        super()._build_layers(layer_cfgs)
        donor = TiedEncoderLayer(**layer_cfgs[0])
        scale, attn, tied = donor.ffn_init_scale, donor.attn, donor.ffn.tied
        if self.share_vectors:
            # Each layer has a query of its own: only its second bias is here.
            q = nn.ModuleDict({'transposed': attn.q.transposed})
            attn = nn.ModuleDict({**dict(attn.named_children()), 'q': q})
            parts = {**dict(donor.named_children()), 'attn': attn}
        else:
            for owner in (attn.kv, tied):
                owner.bias = owner.transposed.bias = None
            parts = {
                'attn': nn.ModuleDict({'kv': attn.kv}),
                'ffn': nn.ModuleDict({'tied': tied}),
            }
        self.shared = shared = _Owner(parts, scale, len(layer_cfgs))
        names = [f'attn.{n}' for n in ('kv', 'gain') if n in shared.attn]
        for layer in self.layers:
            if self.share_vectors:
                share(layer, shared, 'ln1', 'ln2', 'ffn')
                share(layer.attn, shared, *names)
                share(layer.attn.q, shared, 'attn.q.transposed')
            else:
                share(layer.attn.kv, shared, 'attn.kv.weight')
                share(layer.ffn.tied, shared, 'ffn.tied.weight')

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Extract features as :class:`PlainViT` does.

        Raises:
            ValueError: As :class:`PlainViT`, and for hooks and adapters where
                they have no effect.
        """
        if not self.share_vectors:  # matrices are read through their owners
            for name in ('attn.kv', 'ffn.tied'):
                owner = self.shared.get_submodule(name)
                if (
                    not isinstance(owner, TiedLinear)
                    or owner._forward_pre_hooks
                    or owner._forward_hooks
                ):
                    raise ValueError(
                        f'shared.{name} gives its matrix only, it is never '
                        'called: hooks and adapters go to the layers'
                    )
        return super().forward(x)

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
        self.groups = _Groups(
            _Owner({'ffn': layer.ffn}, layer.ffn_init_scale, size)
            for layer in self.layers[::size]
        )
        for i, layer in enumerate(self.layers):
            share(layer, self.groups[i // size], 'ffn')

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
