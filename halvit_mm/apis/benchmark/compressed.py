"""A compressed backbone beside the dense one, to be timed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, List, Optional, Tuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ...compression import (
    Group,
    attach_structure,
    build_sparsifier,
    convert,
    factors,
    find_groups,
    scopes_of,
    structure_of,
)
from ..compress import FiPSSettings
from ..config import load_config
from ..fake_data import image_size
from ..model_info import build_model
from .cases import Case

__all__ = ['CompressedCase']


@dataclass(frozen=True)
class CompressedCase(Case):
    """The backbone of a config with ``fips``. Bases and factors are noise.

    Args: As for :class:`.cases.Case`, and
        config: Config file.
        budget: Share of the parameters that is kept; by default the
            config's.
        shape: Height and width of an image in pixels, by default what the
            config tests with.
    """

    config: str = 'configs/fips/deit_b_fips.py'
    budget: Optional[float] = None
    shape: Optional[Tuple[int, int]] = None

    level: ClassVar[str] = 'fips'

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, 'budget', self.settings.budget)
        shape = tuple(self.shape or image_size(self.cfg))
        object.__setattr__(self, 'shape', shape)

    @cached_property
    def cfg(self) -> Config:
        """The config."""
        return load_config(self.config, read_data=False)

    @cached_property
    def settings(self) -> FiPSSettings:
        """Of the compression."""
        return FiPSSettings.from_config(self.cfg, budget=self.budget)

    @property
    def _what(self) -> str:
        height, width = self.shape
        stem = Path(self.config).stem
        percent = f'{100 * self.budget:g}%'
        return f'{stem}_{percent}_{self.batch}x{height}x{width}px'

    @cached_property
    def sizes(self) -> Tuple[int, int, int, int]:
        """T, D, F of the first unit, and the number of units."""
        module = self.build(tied=False)
        groups = self.groups(module)
        unit = groups[0].units[0]
        seen = []
        handle = unit.module.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].shape[1])
        )
        with torch.no_grad():
            module(*self.inputs(module))
        handle.remove()
        target = unit.targets[0]
        num_units = sum(len(group.units) for group in groups)
        return seen[0], target.dim, target.width, num_units

    def groups(self, module: nn.Module) -> List[Group]:
        """Args: module: From :meth:`build`. Returns: What is compressed."""
        return find_groups(module, self.settings.groups, self.settings.square)

    def build(self, tied: bool) -> nn.Module:
        """Args: tied: Not used. Returns: The backbone, not compressed."""
        return self._place(build_model(self.cfg).backbone)

    def compress(
        self, module: nn.Module, execution: Optional[str] = None
    ) -> nn.Module:
        """Give a backbone bases and sparse factors.

        Args:
            module: From :meth:`build`; changed.
            execution: As of :func:`halvit_mm.compression.convert`; None
                leaves the products as they are trained.

        Returns:
            ``module``.

        Raises:
            ValueError: If the budget cannot be met.
        """
        sparsity = self.settings.sparsity
        attach_structure(
            module,
            [
                structure_of(group, self.budget, sparsity)
                for group in self.groups(module)
            ],
        )
        found = list(factors(module))
        for factor in found:
            nn.init.normal_(factor.factor, std=0.02)
            nn.init.normal_(factor.weight.base.weight, std=0.02)
        scopes = scopes_of(found, 'layer')
        build_sparsifier('static', scopes, sparsity, 1).start()
        if execution is not None:
            convert(module, execution)
        return module

    def inputs(self, module: nn.Module) -> Tuple[Tensor]:
        """Returns: (B, 3, H, W)."""
        return (torch.randn(self.batch, 3, *self.shape, device=self.device),)
