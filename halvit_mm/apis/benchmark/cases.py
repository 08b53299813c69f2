"""What is timed: an encoder layer, a backbone or a detector.

Shapes: B batch, T tokens of an image, D width, F hidden width of the FFN.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Dict, Optional, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn

from ...models import HaLViT
from ...models.layers import GELU_FORMS, EncoderLayer, TiedEncoderLayer
from ..config import load_config
from ..fake_data import fake_batch, image_size, is_detector
from ..model_info import build_model

__all__ = [
    'DTYPES',
    'MODES',
    'BackboneCase',
    'Case',
    'DetectorCase',
    'LayerCase',
]

DTYPES = {
    'fp32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}
MODES = ('train', 'infer')
_PATCH = 16


@dataclass(frozen=True)
class Case(ABC):
    """One thing to time. Weights and inputs are noise.

    Args:
        mode: ``'train'`` (forward, backward and, where the level has one, the
            optimiser) or ``'infer'`` (forward without gradients).
        dtype: ``'fp32'``, or ``'bf16'`` or ``'fp16'`` by autocast.
        device: ``'cpu'``, ``'cuda'`` or ``'cuda:<index>'``.
        batch: Images a step.

    Raises:
        ValueError: For a value that is unknown, does not fit the others, or
            cannot run here.
    """

    mode: str = 'train'
    dtype: str = 'fp32'
    device: str = 'cpu'
    batch: int = 8
    act: str = 'gelu'

    level: ClassVar[str]
    #: What throughput counts.
    unit: ClassVar[str] = 'images'

    def __post_init__(self) -> None:
        _check_choice('mode', self.mode, MODES)
        _check_choice('dtype', self.dtype, DTYPES)
        kind = torch.device(self.device).type
        _check_choice('device', kind, ('cpu', 'cuda'))
        _check_positive(batch=self.batch)
        _check_choice('act', self.act, GELU_FORMS)
        if kind == 'cuda' and not torch.cuda.is_available():
            raise ValueError(
                f'device={self.device!r}, but PyTorch sees no usable GPU'
            )
        if (kind, self.dtype, self.mode) == ('cpu', 'fp16', 'train'):
            raise ValueError('training in fp16 is not supported on CPUs')

    @property
    def name(self) -> str:
        """Name of the case's folder."""
        kind = torch.device(self.device).type
        parts = [self.level, self._what, self.mode, self.dtype, kind]
        if self.act != 'gelu':
            parts.insert(2, self.act)
        return '_'.join(parts)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Dtype of the products."""
        return DTYPES[self.dtype]

    @property
    def units(self) -> int:
        """Units (:attr:`unit`) of a step."""
        return self.batch

    def describe(self) -> Dict[str, Union[str, int]]:
        """The case as it goes into a file."""
        dims = dict(zip(('tokens', 'width', 'hidden', 'layers'), self.sizes))
        return dict(
            level=self.level, name=self.name, **asdict(self), sizes=dims
        )

    def autocast(self) -> torch.autocast:
        """The context that a step runs in."""
        return torch.autocast(
            torch.device(self.device).type,
            dtype=self.torch_dtype,
            enabled=self.torch_dtype != torch.float32,
        )

    @property
    @abstractmethod
    def _what(self) -> str:
        """The part of the name that tells cases of a level apart."""

    @property
    @abstractmethod
    def sizes(self) -> Tuple[int, int, int, int]:
        """T, D, F and the number of encoder layers."""

    @abstractmethod
    def build(self, tied: bool) -> nn.Module:
        """Args: tied: Or untied. Returns: The module, as the mode asks."""

    @abstractmethod
    def inputs(self, module: nn.Module) -> Tuple:
        """Args: module: From :meth:`build`. Returns: What it is fed."""

    def encoder(self, module: nn.Module) -> Tuple[nn.Module, Optional[str]]:
        """The part that is compiled or graphed.

        Args:
            module: From :meth:`build`.

        Returns:
            Itself, or a child of it and the child's name.
        """
        return module, None

    def forward(self, module: nn.Module, inputs: Tuple) -> Tuple[Tensor, ...]:
        """Returns: Tensors from which the backward pass starts."""
        outputs = module(*inputs)
        return (outputs,) if isinstance(outputs, Tensor) else outputs

    def optimizer(self, module: nn.Module):
        """Returns: Something with ``step()``, or None. Its rate is 0."""
        return None

    def _place(self, module: nn.Module) -> nn.Module:
        module.to(self.device)
        module.train(self.mode == 'train')  # the host's returns nothing
        return module


@dataclass(frozen=True)
class LayerCase(Case):
    """One encoder layer, its input in float32.

    Args: As for :class:`Case`, and
        embed_dims: D.
        num_heads: A divisor of D.
        feedforward_channels: F, by default 4 D.
        tokens: T.
    """

    embed_dims: int = 384
    num_heads: int = 6
    feedforward_channels: int = 0
    tokens: int = 197

    level: ClassVar[str] = 'layer'
    unit: ClassVar[str] = 'tokens'

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.feedforward_channels:
            hidden = 4 * self.embed_dims
            object.__setattr__(self, 'feedforward_channels', hidden)
        _check_positive(
            embed_dims=self.embed_dims,
            num_heads=self.num_heads,
            feedforward_channels=self.feedforward_channels,
            tokens=self.tokens,
        )
        if self.embed_dims % self.num_heads:
            raise ValueError(
                f'embed_dims={self.embed_dims} is not divisible by '
                f'num_heads={self.num_heads}'
            )

    @property
    def _what(self) -> str:
        D, heads, F = (
            self.embed_dims,
            self.num_heads,
            self.feedforward_channels,
        )
        return f'{D}x{heads}x{F}_{self.batch}x{self.tokens}'

    @property
    def sizes(self) -> Tuple[int, int, int, int]:
        """T, D, F, 1."""
        return self.tokens, self.embed_dims, self.feedforward_channels, 1

    @property
    def units(self) -> int:
        """Tokens of a step."""
        return self.batch * self.tokens

    def build(self, tied: bool, layer_cls=None) -> nn.Module:
        """Args: tied: Or untied; layer_cls: Another class of layer."""
        layer_cls = layer_cls or (TiedEncoderLayer if tied else EncoderLayer)
        layer = layer_cls(
            self.embed_dims,
            self.num_heads,
            self.feedforward_channels,
            norm_cfg=dict(type='LN', eps=1e-6),
            act=self.act,
        )
        return self._place(_WholeGrid(layer, (1, self.tokens)))

    def inputs(self, module: nn.Module) -> Tuple[Tensor]:
        """Returns: (B, T, D) with a gradient, as in the midst of a model."""
        shape = self.batch, self.tokens, self.embed_dims
        x = torch.randn(shape, device=self.device)
        return (x.requires_grad_(self.mode == 'train'),)


@dataclass(frozen=True)
class BackboneCase(Case):
    """HaLViT beside mmpretrain's ViT of the same sizes, patches of 16.

    Args: As for :class:`Case`, and
        arch: As for :class:`halvit_mm.models.HaLViT`.
        img_size: Height and width in pixels.
    """

    arch: Union[str, Dict[str, int]] = 'tiny'
    img_size: int = 224

    level: ClassVar[str] = 'backbone'

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.arch, str):
            _check_choice('arch', self.arch, HaLViT.arch_zoo)
        _check_positive(img_size=self.img_size)
        if self.img_size % _PATCH:
            raise ValueError(
                f'img_size={self.img_size} is not a multiple of {_PATCH}'
            )

    @property
    def settings(self) -> Dict[str, int]:
        """The arch as a dict."""
        named = isinstance(self.arch, str)
        return dict(HaLViT.arch_zoo[self.arch] if named else self.arch)

    @property
    def _what(self) -> str:
        arch = self.arch
        if not isinstance(arch, str):
            arch = 'x'.join(str(value) for value in arch.values())
        return f'{arch}_{self.batch}x{self.img_size}px'

    @property
    def sizes(self) -> Tuple[int, int, int, int]:
        """T with the cls token, D, F and the number of layers."""
        arch = self.settings
        return (
            (self.img_size // _PATCH) ** 2 + 1,
            arch['embed_dims'],
            arch['feedforward_channels'],
            arch['num_layers'],
        )

    def build(self, tied: bool) -> nn.Module:
        """Args: tied: HaLViT, or mmpretrain's ViT, which knows one GELU."""
        options = dict(
            arch=self.settings, img_size=self.img_size, patch_size=_PATCH
        )
        if tied:
            return self._place(HaLViT(act=self.act, **options))
        return self._place(VisionTransformer(**options))

    def inputs(self, module: nn.Module) -> Tuple[Tensor]:
        """Returns: (B, 3, H, W)."""
        shape = self.batch, 3, self.img_size, self.img_size
        return (torch.randn(shape, device=self.device),)

    def optimizer(self, module: nn.Module) -> Optional[torch.optim.Optimizer]:
        """Returns: AdamW in training."""
        if self.mode != 'train':
            return None
        return torch.optim.AdamW(module.parameters(), lr=0.0)


@dataclass(frozen=True)
class DetectorCase(Case):
    """A detector of a config; untied, its backbone is a ``PlainViT``.

    Inference is without the heads' last step, from scores to detections:
    from noise it would depend on chance.

    Args: As for :class:`Case`, and
        config: Config file.
        shape: Height and width of an image in pixels, by default what the
            config tests with.
    """

    batch: int = 2
    config: str = 'configs/maskrcnn_halvit_t.py'
    shape: Optional[Tuple[int, int]] = None

    level: ClassVar[str] = 'detector'

    def __post_init__(self) -> None:
        super().__post_init__()
        cfg = self.cfg
        if not is_detector(cfg):
            raise ValueError(f'{self.config} is no config of a detector')
        if cfg.model.backbone.type != 'halvit_mm.HaLViT':
            raise ValueError(
                f'the backbone of {self.config} is {cfg.model.backbone.type}, '
                "not 'halvit_mm.HaLViT'"
            )
        shape = tuple(self.shape or image_size(cfg))
        object.__setattr__(self, 'shape', shape)
        _check_positive(height=shape[0], width=shape[1])

    @cached_property
    def cfg(self) -> Config:
        """The config; pretrained weights are not loaded."""
        return load_config(self.config, read_data=False)

    @property
    def _what(self) -> str:
        height, width = self.shape
        stem = Path(self.config).stem
        return f'{stem}_{self.batch}x{height}x{width}px'

    @property
    def sizes(self) -> Tuple[int, int, int, int]:
        """T of an image without padding, D, F and the number of layers."""
        backbone = self.cfg.model.backbone
        arch = backbone.arch
        arch = HaLViT.arch_zoo[arch] if isinstance(arch, str) else arch
        patch = backbone.get('patch_size', _PATCH)
        height, width = (-(-side // patch) for side in self.shape)
        return (
            height * width,
            arch['embed_dims'],
            arch['feedforward_channels'],
            arch['num_layers'],
        )

    def build(self, tied: bool) -> nn.Module:
        """Args: tied: Or with the backbone exchanged."""
        cfg = Config(self.cfg.to_dict())
        cfg.model.backbone.act = self.act
        if not tied:
            cfg.model.backbone.type = 'halvit_mm.PlainViT'
        return self._place(build_model(cfg))

    def inputs(self, module: nn.Module) -> Tuple[dict]:
        """Returns: What the preprocessor makes of a batch of noise."""
        batch = fake_batch(self.cfg, self.shape, self.batch)
        return (module.data_preprocessor(batch, self.mode == 'train'),)

    def encoder(self, module: nn.Module) -> Tuple[nn.Module, str]:
        """Returns: The backbone and its name."""
        return module.backbone, 'backbone'

    def forward(self, module: nn.Module, inputs: Tuple) -> Tuple[Tensor, ...]:
        """Returns: The loss; in inference nothing."""
        (data,) = inputs
        if self.mode == 'infer':
            module(**data, mode='tensor')
            return ()
        losses = module(**data, mode='loss')
        return (module.parse_losses(losses)[0],)

    def optimizer(self, module: nn.Module):
        """Returns: The config's, in training."""
        if self.mode != 'train':
            return None
        wrapper = build_optim_wrapper(module, self.cfg.optim_wrapper)
        for group in wrapper.param_groups:
            group['lr'] = 0.0
        return wrapper


class _WholeGrid(nn.Module):
    """A layer that is called with tokens only; hw: its grid in tokens."""

    def __init__(self, layer: nn.Module, hw: Tuple[int, int]) -> None:
        super().__init__()
        self.layer = layer
        self.hw = hw

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, T, D). Returns: (B, T, D)."""
        return self.layer(x, self.hw)


def _check_choice(name: str, value: str, choices) -> None:
    if value not in choices:
        raise ValueError(f'{name}={value!r}: choose one of {list(choices)}')


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f'{name}={value}: it is to be at least 1')
