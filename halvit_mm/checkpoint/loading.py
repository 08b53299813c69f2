"""Reading of checkpoints: safe, counted, and loud where they do not fit."""

import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import Dict, List, Optional

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .key_maps import to_ours

__all__ = ['check_coverage', 'load_pretrained', 'read_state_dict']

StateDict = Dict[str, Tensor]


def read_state_dict(path: str) -> StateDict:
    """Read the weights of a file, never executing what it holds.

    Args:
        path: A ``.safetensors`` file, or one of ``torch.save`` with the
            weights at the top, under ``state_dict`` or under ``model``.

    Returns:
        Name -> tensor on the CPU, without a leading ``module.``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds more than data, or no weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    content = _read(path)
    for key in ('state_dict', 'model'):
        if isinstance(content, dict):
            content = content.get(key, content)
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds no weights but {type(content)}')
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(f'{path} holds no weights; keys: {list(content)[:9]}')
    return {k.removeprefix('module.'): v for k, v in tensors.items()}


def _read(path: str):
    """Returns: What the file holds; data only."""
    try:
        if str(path).endswith('.safetensors'):
            return load_file(path)
        return torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f'{path} is not a plain checkpoint: {error}. If you trust it, '
            'load it with torch.load(..., weights_only=False) and save its '
            'state dict alone'
        ) from error
    except (EOFError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f'{path} is damaged or incomplete: {error}'
        ) from error


def _missing_file_message(checkpoint: str, made_by: Optional[str]) -> str:
    lines = [f'there is no checkpoint {checkpoint}.']
    if made_by:
        lines.append(f'Make it:            {made_by}')
    lines.append(
        'Start from scratch: --cfg-options model.backbone.init_cfg=None'
    )
    return '\n'.join(lines)


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _complaint(own: StateDict, found: StateDict, fitting: List[str]) -> str:
    misfits = [
        f'{k} is {tuple(found[k].shape)}, here {tuple(own[k].shape)}'
        for k in found
        if k in own and k not in fitting
    ]
    lines = []
    if misfits:
        lines.append(f'other shapes ({len(misfits)}): {misfits[:3]}')
    for title, one, other in (
        ('missing', own, found),
        ('not known here', found, own),
    ):
        names = [k for k in one if k not in other]
        if names:
            lines.append(f'{title} ({len(names)}): {names[:3]}')
    return '\n'.join(lines)


def check_coverage(
    module: nn.Module,
    found: StateDict,
    checkpoint: str,
    min_coverage: float = 0.95,
) -> float:
    """Whether weights are those of a module.

    Args:
        module: What they are for.
        found: Name -> tensor.
        checkpoint: Where they come from, for the error.
        min_coverage: Least share of the module's bytes.

    Returns:
        The share of the module's bytes that they cover, 0 to 1.

    Raises:
        ValueError: If it is less than ``min_coverage`` or a weight has
            another shape, naming the differences.
    """
    own = module.state_dict()
    fitting = [k for k in found if k in own and found[k].shape == own[k].shape]
    misfitting = any(k in own and k not in fitting for k in found)
    loaded = sum(_nbytes(own[k]) for k in fitting)
    coverage = loaded / sum(map(_nbytes, own.values()))
    if coverage < min_coverage or misfitting:
        raise ValueError(
            f'{checkpoint} does not fit {type(module).__name__}: it covers '
            f'{coverage:.1%} of its bytes (at least {min_coverage:.0%} are '
            'asked) and is of another architecture or '
            f'incomplete.\n{_complaint(own, found, fitting)}'
        )
    return coverage


def load_pretrained(
    module: nn.Module,
    checkpoint: str,
    prefix: str = 'backbone.',
    min_coverage: float = 0.95,
    made_by: Optional[str] = None,
    origin: Optional[str] = None,
) -> float:
    """Load a backbone's weights and count how much of it they cover.

    Args:
        module: The backbone. Its ``adapt_state_dict``, if any, is applied to
            the weights first.
        checkpoint: File to read.
        prefix: What the backbone's keys start with in the file; where no key
            does, the file is taken as the backbone's own.
        min_coverage: Least share of the backbone's bytes.
        made_by: Command that makes the file, for the error.
        origin: Project whose names the file has, one of
            :data:`.key_maps.KEY_MAPS`; None for mmpretrain's or our own.

    Returns:
        The share of the backbone's bytes that was loaded, 0 to 1.

    Raises:
        FileNotFoundError: If there is no such file, with the way out.
        ValueError: If less than ``min_coverage`` is covered, a weight has
            another shape, naming the differences, or its name is not known
            of ``origin``.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(_missing_file_message(checkpoint, made_by))
    found = read_state_dict(checkpoint)
    if origin is not None:
        found = to_ours(found, origin)
    prefix = prefix and prefix.rstrip('.') + '.'
    if any(key.startswith(prefix) for key in found):
        found = {
            key.removeprefix(prefix): value
            for key, value in found.items()
            if key.startswith(prefix)
        }
    own = module.state_dict()
    if hasattr(module, 'adapt_state_dict') and _same_width(own, found):
        module.adapt_state_dict(found)
    coverage = check_coverage(module, found, checkpoint, min_coverage)
    module.load_state_dict(found, strict=False)
    print_log(
        f'{checkpoint}: loaded {coverage:.1%} of the bytes of '
        f'{type(module).__name__}',
        logger='current',
        level=logging.INFO,
    )
    return coverage


def _same_width(own: StateDict, found: StateDict) -> bool:
    """Whether embeddings of another grid could be fitted at all."""
    if 'pos_embed' not in own or 'pos_embed' not in found:
        return False
    return own['pos_embed'].shape[-1] == found['pos_embed'].shape[-1]
