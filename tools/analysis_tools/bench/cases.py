"""What is timed: the common part of all cases, and a backbone."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar, Dict, NamedTuple, Tuple, Union

import torch
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn

from halvit_mm.models import HaLViT
from halvit_mm.models.layers import GELU_FORMS

DTYPES = {
    'fp32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}
MODES = ('train', 'infer')
_PATCH = 16
_UNSUPPORTED = ('cpu', 'fp16', 'train')


class Sizes(NamedTuple):
    """The sizes of an encoder.

    Attributes:
        tokens: Tokens T of an image.
        width: Width D.
        hidden: Hidden width F of the FFN.
        layers: Number of layers.
    """

    tokens: int
    width: int
    hidden: int
    layers: int

    @classmethod
    def of(cls, arch: Union[str, Dict[str, int]], tokens: int) -> 'Sizes':
        """Take the sizes of a ViT from its arch."""
        arch = HaLViT.arch_zoo[arch] if isinstance(arch, str) else arch
        names = ('embed_dims', 'feedforward_channels', 'num_layers')
        return cls(tokens, *(arch[name] for name in names))


@dataclass(frozen=True)
class Case(ABC):
    """One thing to time, with random weights and inputs.

    Args:
        mode: ``'train'`` (forward, backward and, where there is one, the
            optimiser) or ``'infer'`` (forward without gradients).
        dtype: ``'fp32'``, or ``'bf16'`` or ``'fp16'`` by autocast.
        device: ``'cpu'``, ``'cuda'`` or ``'cuda:<index>'``.
        batch: Images in a step.
        act: Form of the GELU, ``'gelu'`` or ``'gelu_tanh'``.

    Raises:
        ValueError: For a value that is unknown, does not fit the others or
            cannot run here.
    """

    mode: str = 'train'
    dtype: str = 'fp32'
    device: str = 'cpu'
    batch: int = 8
    act: str = 'gelu'

    level: ClassVar[str]
    #: The child that is compiled or recorded as a CUDA graph; empty for all.
    encoder: ClassVar[str] = ''

    def __post_init__(self) -> None:
        check_choice('mode', self.mode, MODES)
        check_choice('dtype', self.dtype, DTYPES)
        check_choice('device', self.device_type, ('cpu', 'cuda'))
        check_choice('act', self.act, GELU_FORMS)
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f'{name}={value}: it must be at least 1')
        if self.device_type == 'cuda' and not torch.cuda.is_available():
            raise ValueError(
                f'device={self.device!r}, but PyTorch sees no usable GPU'
            )
        if (self.device_type, self.dtype, self.mode) == _UNSUPPORTED:
            raise ValueError('training in fp16 is not supported on CPUs')

    @property
    def device_type(self) -> str:
        """``'cpu'`` or ``'cuda'``."""
        return torch.device(self.device).type

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the matrix products."""
        return DTYPES[self.dtype]

    @property
    def name(self) -> str:
        """The name of the folder of the results."""
        act = '' if self.act == 'gelu' else f'_{self.act}'
        how = f'{self.mode}_{self.dtype}_{self.device_type}'
        return f'{self.level}_{self.label}{act}_{how}'

    @property
    @abstractmethod
    def label(self) -> str:
        """The part of the name that tells cases of one level apart."""

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """The sizes of the encoder."""

    @abstractmethod
    def build(self, tied: bool) -> nn.Module:
        """Build the module, with tied layers or others."""

    @abstractmethod
    def inputs(self, module: nn.Module) -> Tuple:
        """Make random inputs for a module from :meth:`build`."""

    def forward(self, module: nn.Module, inputs: Tuple) -> Tuple[Tensor, ...]:
        """Run a forward pass; return where the backward pass starts."""
        outputs = module(*inputs)
        return (outputs,) if isinstance(outputs, Tensor) else outputs

    def optimizer(self, module: nn.Module):
        """Make something with ``step()`` and learning rate 0, or None."""
        return None

    def describe(self) -> Dict:
        """Describe the case, as a dict that is written to a file."""
        values = dict(level=self.level, name=self.name, **asdict(self))
        return dict(values, sizes=self.sizes._asdict())

    def _place(self, module: nn.Module) -> nn.Module:
        module.to(self.device)
        module.train(self.mode == 'train')  # the host's returns nothing
        return module


@dataclass(frozen=True)
class BackboneCase(Case):
    """HaLViT and mmpretrain's ViT of the same sizes, with patches of 16.

    It takes the arguments of :class:`Case` and these:

    Args:
        arch: Architecture, as :class:`halvit_mm.models.HaLViT` takes it.
        img_size: Height and width in pixels.
    """

    arch: Union[str, Dict[str, int]] = 'tiny'
    img_size: int = 224

    level: ClassVar[str] = 'backbone'

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.arch, str):
            check_choice('arch', self.arch, HaLViT.arch_zoo)
        if self.img_size % _PATCH:
            raise ValueError(
                f'img_size={self.img_size} is not a multiple of {_PATCH}'
            )

    @property
    def label(self) -> str:
        """The arch, B and the side of an image."""
        arch = self.arch
        if not isinstance(arch, str):
            arch = 'x'.join(map(str, arch.values()))
        return f'{arch}_{self.batch}x{self.img_size}px'

    @property
    def sizes(self) -> Sizes:
        """The encoder's, with the class token."""
        return Sizes.of(self.arch, (self.img_size // _PATCH) ** 2 + 1)

    def build(self, tied: bool) -> nn.Module:
        """Build HaLViT, or mmpretrain's ViT, which has only one GELU."""
        arch = self.arch
        arch = HaLViT.arch_zoo[arch] if isinstance(arch, str) else arch
        options = dict(
            arch=dict(arch), img_size=self.img_size, patch_size=_PATCH
        )
        if tied:
            return self._place(HaLViT(act=self.act, **options))
        return self._place(VisionTransformer(**options))

    def inputs(self, module: nn.Module) -> Tuple[Tensor]:
        """Images (B, 3, H, W)."""
        shape = self.batch, 3, self.img_size, self.img_size
        return (torch.randn(shape, device=self.device),)

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """Make AdamW."""
        return torch.optim.AdamW(module.parameters(), lr=0.0)


def check_choice(name: str, value: str, choices) -> None:
    """Raise a ValueError if a value is none of the choices."""
    if value not in choices:
        raise ValueError(f'{name}={value!r}: choose one of {list(choices)}')
