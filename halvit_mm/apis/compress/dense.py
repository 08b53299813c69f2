"""Back from a compressed model to one of dense weights."""

from pathlib import Path

from mmengine.config import Config
from torch import nn

from ...checkpoint import header_model, load_weights, save_weights
from ...compression import convert
from ...models import CompressedBackbone
from ..model_info import build_model
from .checkpoint import describe


def dense_model(cfg: Config, checkpoint: str) -> nn.Module:
    """Build a compressed model and make its weights dense.

    Args:
        cfg: Config of the compressed model, as :func:`.compressed_config`
            makes it.
        checkpoint: A compressed file, or a checkpoint of a training of it.

    Returns:
        The model in eval mode, with the layers of the original and the
        products of bases and factors as its weights.

    Raises:
        ValueError: If the config is not of a compressed model, or the
            checkpoint does not fit.
    """
    model = build_model(cfg)
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, CompressedBackbone):
        raise ValueError(
            f'the backbone is {type(backbone).__name__}, not a '
            'CompressedBackbone: take the config.py beside the compressed file'
        )
    load_weights(model, checkpoint, min_coverage=1.0)
    model.backbone = backbone.inner
    convert(model.backbone)
    return model.eval()


def save_dense(cfg: Config, checkpoint: str, out: Path) -> int:
    """Write what the original's config loads, here and in the hosts' tools.

    Args:
        cfg: Config of the compressed model.
        checkpoint: A compressed file, or a checkpoint of a training of it.
        out: A ``.pth`` or ``.safetensors`` file, written whole or not at all.

    Returns:
        Number of weights.

    Raises:
        ValueError: As :func:`dense_model`.
        OSError: If it cannot be written.
    """
    state_dict = dense_model(cfg, checkpoint).state_dict()
    model = cfg.model.to_dict()
    model['backbone'] = model['backbone']['backbone']
    save_weights(
        out,
        state_dict,
        model=header_model(model, out),
        **describe(cfg, out),
    )
    return len(state_dict)
