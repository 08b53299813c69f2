"""What is timed: models that a config describes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from halvit_mm.apis import load_config
from halvit_mm.apis.fake_data import fake_batch, image_size, is_detector
from halvit_mm.apis.model_info import build_model
from halvit_mm.compression import (
    FiPSConfig,
    attach_structure,
    build_sparsifier,
    convert,
    factors,
    find_groups,
    plan_compression,
    scopes_of,
)

from .cases import Case, Sizes


@dataclass(frozen=True)
class _ConfigCase(Case):
    """A model, or a part of it, that a config describes.

    It takes the arguments of :class:`Case` and these:

    Args:
        config: Config file.
        shape: Height and width of an image in pixels, by default those that
            the config tests with.
    """

    config: str = ''
    shape: Optional[Tuple[int, int]] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = tuple(self.shape or image_size(self.cfg))
        object.__setattr__(self, 'shape', shape)
        if min(shape) < 1:
            raise ValueError(f'shape={shape} must be at least 1 x 1')

    @cached_property
    def cfg(self) -> Config:
        """The config; pretrained weights are not loaded."""
        return load_config(self.config, read_data=False)

    @property
    def label(self) -> str:
        """The config, B and the size of an image."""
        height, width = self.shape
        return f'{Path(self.config).stem}_{self.batch}x{height}x{width}px'


@dataclass(frozen=True)
class DetectorCase(_ConfigCase):
    """A detector with a HaLViT, or with an untied ViT in its place.

    Inference leaves out the last step of the heads, from scores to
    detections: on noise its cost would depend on chance.
    """

    batch: int = 2
    config: str = 'configs/maskrcnn_halvit_t.py'

    level: ClassVar[str] = 'detector'
    encoder: ClassVar[str] = 'backbone'

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_detector(self.cfg):
            raise ValueError(f'{self.config} is not the config of a detector')
        backbone = self.cfg.model.backbone.type
        if backbone != 'halvit_mm.HaLViT':
            raise ValueError(
                f'the backbone of {self.config} is {backbone}, not '
                "'halvit_mm.HaLViT'"
            )

    @property
    def sizes(self) -> Sizes:
        """The backbone's; T is that of an image without padding."""
        backbone = self.cfg.model.backbone
        patch = backbone.get('patch_size', 16)
        height, width = (-(-side // patch) for side in self.shape)
        return Sizes.of(backbone.arch, height * width)

    def build(self, tied: bool) -> nn.Module:
        """Build the detector; untied, its backbone is a ``PlainViT``."""
        cfg = Config(self.cfg.to_dict())
        cfg.model.backbone.act = self.act
        if not tied:
            cfg.model.backbone.type = 'halvit_mm.PlainViT'
        return self._place(build_model(cfg))

    def inputs(self, module: nn.Module) -> Tuple[dict]:
        """What the preprocessor makes of a batch of noise."""
        batch = fake_batch(self.cfg, self.shape, self.batch)
        return (module.data_preprocessor(batch, self.mode == 'train'),)

    def forward(self, module: nn.Module, inputs: Tuple) -> Tuple[Tensor, ...]:
        """Compute the loss; in inference the tuple is empty."""
        (data,) = inputs
        if self.mode == 'infer':
            module(**data, mode='tensor')
            return ()
        losses = module(**data, mode='loss')
        return (module.parse_losses(losses)[0],)

    def optimizer(self, module: nn.Module):
        """Make the optimiser of the config."""
        wrapper = build_optim_wrapper(module, self.cfg.optim_wrapper)
        for group in wrapper.param_groups:
            group['lr'] = 0.0
        return wrapper


@dataclass(frozen=True)
class CompressedCase(_ConfigCase):
    """The backbone of a config with ``fips``; bases and factors are noise.

    It takes the arguments of :class:`DetectorCase` and this one:

    Args:
        budget: Share of the parameters that is kept; by default the one in
            the config.
    """

    config: str = 'configs/fips/deit_b_fips.py'
    budget: Optional[float] = None

    level: ClassVar[str] = 'fips'

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, 'budget', self.settings.budget)

    @cached_property
    def settings(self) -> FiPSConfig:
        """How it is compressed."""
        return FiPSConfig.from_mapping(
            self.cfg.get('fips'), budget=self.budget
        )

    @property
    def label(self) -> str:
        """The config, the budget, B and the size of an image."""
        config, _, images = super().label.rpartition('_')
        return f'{config}_{100 * self.budget:g}%_{images}'

    @cached_property
    def sizes(self) -> Sizes:
        """T, D and F of the first unit, and the number of units."""
        module = self.build(tied=False)
        groups = find_groups(
            module, self.settings.groups, self.settings.square
        )
        unit = groups[0].units[0]
        tokens = []
        handle = unit.module.register_forward_pre_hook(
            lambda module, args: tokens.append(args[0].shape[1])
        )
        with torch.no_grad():
            module(*self.inputs(module))
        handle.remove()
        target = unit.targets[0]
        num_units = sum(len(group.units) for group in groups)
        return Sizes(tokens[0], target.dim, target.width, num_units)

    def build(self, tied: bool) -> nn.Module:
        """Build the backbone, not compressed; ``tied`` has no effect."""
        return self._place(build_model(self.cfg).backbone)

    def compress(
        self, module: nn.Module, execution: Optional[str] = None
    ) -> nn.Module:
        """Give a backbone bases and sparse factors.

        Args:
            module: From :meth:`build`; it is changed.
            execution: An execution of :func:`halvit_mm.compression.convert`,
                or None to compute the products in every step, as in training.

        Returns:
            ``module``.

        Raises:
            ValueError: If the budget cannot be met.
        """
        plan = plan_compression(module, self.settings)
        attach_structure(module, plan.structures)
        found = list(factors(module))
        for factor in found:
            nn.init.normal_(factor.factor, std=0.02)
            nn.init.normal_(factor.weight.base.weight, std=0.02)
        scopes = scopes_of(found, 'layer')
        build_sparsifier('static', scopes, self.settings.sparsity, 1).start()
        if execution is not None:
            convert(module, execution)
        return module

    def inputs(self, module: nn.Module) -> Tuple[Tensor]:
        """Images (B, 3, H, W)."""
        return (torch.randn(self.batch, 3, *self.shape, device=self.device),)
