"""What ViTs have in common whose layers share weights with each other.

What is shared is registered once, by the backbone; the layers refer to it,
see :mod:`halvit_mm.models.layers.sharing`.
"""

import copy
from typing import Dict, List, Optional, Sequence, Tuple

from mmengine.model import ModuleDict, ModuleList
from torch import Tensor, nn

from ..layers import TiedLinear, init_ffn, share
from .plain_vit import PlainViT


class Owner(ModuleDict):
    """Registers what layers borrow from it; it is never called itself.

    Args:
        parts: What is borrowed.
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
        if 'ffn' in self:
            init_ffn(self.ffn, self.ffn_init_scale)


class KeepsOwners(nn.Module):
    """Refuses to have its owners replaced: layers would keep the old ones."""

    def __setattr__(self, name: str, value) -> None:
        child = self.__dict__.get('_modules', {}).get(name)
        is_owner = isinstance(child, (Owner, Groups))
        if is_owner and value is not child:
            raise ValueError(
                f'{name!r} of {type(self).__name__} owns what layers borrow: '
                'wrap or replace what it holds, not itself'
            )
        super().__setattr__(name, value)


class Groups(KeepsOwners, ModuleList):
    """The owners of a backbone with several."""


def matrices_of(part: nn.Module, *names: str) -> nn.ModuleDict:
    """Copy the linear layers of a part, without their biases.

    Args:
        part: Attention or an FFN.
        names: Which of them, by default all.

    Returns:
        Folders and layers of the same names; the layers' weights are for
        others to borrow.
    """
    tree = nn.ModuleDict()
    for path, module in part.named_modules():
        if not isinstance(module, nn.Linear) or (names and path not in names):
            continue
        *folders, name = path.split('.')
        node = tree
        for folder in folders:
            if folder not in node:
                node[folder] = nn.ModuleDict()
            node = node[folder]
        node[name] = copy.deepcopy(module)
        node[name].bias = None
        if isinstance(module, TiedLinear):
            node[name].transposed.bias = None
    return tree


def share_matrices(layer: nn.Module, owner: Owner) -> List[str]:
    """Let a layer use the matrices of an owner, with biases of its own.

    Args:
        layer: An encoder layer.
        owner: Holds what :func:`matrices_of` has copied of such a layer.

    Returns:
        Paths of the matrices' linear layers in the owner.
    """
    paths = [n for n, m in owner.named_modules() if isinstance(m, nn.Linear)]
    for path in paths:
        share(layer.get_submodule(path), owner, f'{path}.weight')
    return paths


class SharingViT(KeepsOwners, PlainViT):
    """A ViT whose layers borrow modules from owners that it registers.

    Args:
        args, kwargs: As for :class:`PlainViT`.
        share_vectors: Whether biases, and what else is no matrix, are shared
            with the matrices; without, every layer has its own.
    """

    #: Paths of linear layers that only own a matrix, and are never called.
    matrices: Sequence[str] = ()

    def __init__(self, *args, share_vectors: bool = True, **kwargs) -> None:
        self.share_vectors = share_vectors
        super().__init__(*args, **kwargs)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Extract features as :class:`PlainViT` does.

        Raises:
            ValueError: As :class:`PlainViT`, and for hooks and adapters where
                they have no effect.
        """
        for path in self.matrices:
            owner = self.get_submodule(path)
            if (
                not isinstance(owner, nn.Linear)
                or owner._forward_pre_hooks
                or owner._forward_hooks
            ):
                raise ValueError(
                    f'{path} gives its matrix only, it is never called: hooks '
                    'and adapters go to the layers'
                )
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
