"""A HaLViT that starts from a trained ViT: fitted, then calibrated.

What it gives is a start for training, not a model: a tied layer cannot do what
an untied one does.
"""

import copy
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor, nn

from ...checkpoint import header_model, save_weights
from ...compression import CalibrationConfig, Progress, UnitError, calibrate
from ...compression.targets import Unit
from ...compression.trained import Trained
from ...models.layers import LikeTiedSelfAttention, SelfAttention, TiedFFN
from ..model_info import build_model
from .checkpoint import describe, load_original
from .data import calibration_batches

#: Name of the file in the folder.
TIED_FILE = 'tied.safetensors'
_LAYERS_PER_PASS = 4  # as FiPS's groups of twelve layers
_TYINGS = ('gain', 'attn', 'out_gain', 'hidden_shift')


class Tying(NamedTuple):
    """A tied model that is fitted to an untied one.

    Attributes:
        model: The tied backbone.
        config: Settings.
        passes: Units that are calibrated together, for each pass.
    """

    model: nn.Module
    config: CalibrationConfig
    passes: List[List[Unit]]

    def training_of(self, units: List[Unit]) -> 'TiedTraining':
        """Say what is trained of the units of a pass."""
        return TiedTraining(units)


class TiedTraining(Trained):
    """All parameters of attentions and FFNs, from fitted ones."""

    @torch.no_grad()
    def reduce(self, originals: Dict[str, nn.Module], store) -> None:
        """Fit the units to what they were."""
        for unit in self.units:
            is_ffn = isinstance(unit.module, TiedFFN)
            fit = _fit_ffn if is_ffn else _fit_attention
            fit(unit.module, originals[unit.name])


def _fit_ffn(tied: TiedFFN, untied: nn.Module) -> None:
    """Each row is the mean of what a hidden unit reads and what it writes.

    With signs the half of the units whose directions agree least is what
    counts negative.
    """
    first, second = (m for m in untied.modules() if isinstance(m, nn.Linear))
    reads, writes, bias = first.weight, second.weight.t(), first.bias
    if tied.signed:
        agreement = F.cosine_similarity(reads, writes, dim=1)
        order = agreement.argsort(descending=True)
        sign = torch.ones_like(agreement)
        sign[len(sign) // 2 :] = -1
        reads, bias = reads[order], bias[order]
        writes = writes[order] * sign[:, None]
    tied.tied.weight.copy_((reads + writes) / 2)
    tied.tied.bias.copy_(bias)
    tied.tied.transposed.bias.copy_(second.bias)


def _fit_attention(tied: nn.Module, untied: nn.Module) -> None:
    """Each matrix is the mean of the two that it stands for."""
    q, k, v = untied.qkv.weight.chunk(3)
    q_bias, k_bias, v_bias = untied.qkv.bias.chunk(3)
    out, out_bias = untied.proj.weight, untied.proj.bias
    if isinstance(tied, LikeTiedSelfAttention):
        _fit(tied.qk, q, k.t(), q_bias, k_bias)
        _fit(tied.vo, v, out, v_bias, out_bias)
    else:
        _fit(tied.q, q, out.t(), q_bias, out_bias)
        _fit(tied.kv, k, v.t(), k_bias, v_bias)


def _fit(
    layer: nn.Module, one: Tensor, two: Tensor, bias: Tensor, second: Tensor
) -> None:
    layer.weight.copy_((one + two) / 2)
    layer.bias.copy_(bias)
    layer.transposed.bias.copy_(second)


def untied_config(cfg: Config) -> Config:
    """Write the config of a HaLViT's untied twin.

    Raises:
        ValueError: If the backbone is no HaLViT, or shifts hidden units.
    """
    backbone = cfg.model.backbone
    if backbone.type not in ('HaLViT', 'halvit_mm.HaLViT'):
        raise ValueError(
            f'the backbone is {backbone.type}: the config is to be of a '
            'halvit_mm.HaLViT, such as configs/pretrain/halvit_t_in1k.py'
        )
    if backbone.get('gain') == backbone.get('attn') == 'untied':
        raise ValueError("gain and attn are 'untied': there is nothing to fit")
    if backbone.get('hidden_shift') or 'learnt' in backbone.get('gain', ''):
        raise ValueError(
            'a HaLViT with hidden_shift or learnt gains cannot be fitted: '
            "leave hidden_shift out, and take gain='none' or 'signed'"
        )
    cfg = copy.deepcopy(cfg)
    for name in _TYINGS:
        cfg.model.backbone.pop(name, None)
    cfg.model.backbone.type = 'halvit_mm.PlainViT'
    return cfg


def _tied_units(backbone: nn.Module) -> List[List[Unit]]:
    """Attentions and FFNs that are tied, some layers a pass."""
    found = []
    for start in range(0, len(backbone.layers), _LAYERS_PER_PASS):
        units = []
        some = backbone.layers[start : start + _LAYERS_PER_PASS]
        for i, layer in enumerate(some, start):
            if not isinstance(layer.attn, SelfAttention):
                units.append(Unit(f'layers.{i}.attn', layer.attn, []))
            if isinstance(layer.ffn, TiedFFN):
                units.append(Unit(f'layers.{i}.ffn', layer.ffn, []))
        found.append(units)
    return found


def _copy_others(
    model: nn.Module, original: nn.Module, units: List[str]
) -> None:
    """Copy what is not tied: embeddings, norms, heads, untied halves."""
    tied = tuple(f'backbone.{name}.' for name in units)
    others = {
        name: value
        for name, value in original.state_dict().items()
        if not name.startswith(tied) and not name.endswith('.variant')
    }
    for name, value in model.state_dict().items():
        if name.endswith('.variant'):  # its own
            others[name] = value
    missing, unknown = model.load_state_dict(others, strict=False)
    left = [name for name in missing if not name.startswith(tied)]
    if left or unknown:
        raise ValueError(
            f'the tied model differs beyond its layers: missing {left[:3]}, '
            f'unknown {unknown[:3]}'
        )


def tie(
    cfg: Config,
    checkpoint: str,
    config: CalibrationConfig,
    out: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> List[UnitError]:
    """Fit a HaLViT to a trained ViT of the same architecture.

    Args:
        cfg: Config of a classifier or detector on a HaLViT.
        checkpoint: File of its untied twin, or of the twin's backbone.
        config: Settings, see :func:`.settings.read_settings`.
        out: Folder: ``tied.safetensors`` and states.
        report: Called after every step.

    Returns:
        The errors of every unit.

    Raises:
        ValueError: As :func:`untied_config`, if the file does not fit, or as
            :func:`halvit_mm.compression.calibrate`.
    """
    twin, model = untied_config(cfg), build_model(cfg).eval()
    original, is_whole = load_original(twin, checkpoint)
    device = get_device()
    passes = _tied_units(model.backbone)
    _copy_others(model, original, [u.name for some in passes for u in some])
    original, model = original.to(device), model.to(device)
    batches, held_out = calibration_batches(cfg, original, config)
    errors = calibrate(
        original.backbone,
        Tying(model.backbone, config, passes),
        batches,
        out / 'states',
        report,
        held_out,
    )
    described = describe(cfg, out / TIED_FILE)
    if is_whole:
        tied = cfg.model.to_dict()
        described['model'] = header_model(tied, out / TIED_FILE)
    else:
        model = nn.ModuleDict(dict(backbone=model.backbone))
    save_weights(out / TIED_FILE, model.state_dict(), **described)
    return errors
