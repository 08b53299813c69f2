"""Batches of noise, to try a config without its data."""

from typing import Tuple

import torch
from mmengine.config import Config

__all__ = ['fake_batch', 'image_size']


def image_size(cfg: Config) -> Tuple[int, int]:
    """Height and width in pixels that a config's model sees in testing.

    Args:
        cfg: Of a detector or a classifier.

    Returns:
        Of a detector the test scale, landscape, padded as its preprocessor
        pads; of a classifier, or where images are taken as they are, the
        backbone's ``img_size``.
    """
    size = cfg.model.backbone.get('img_size', 224)
    size = (size, size) if isinstance(size, int) else tuple(size)
    if not is_detector(cfg):
        return size
    pipeline = cfg.test_dataloader.dataset.pipeline
    scale = next((t['scale'] for t in pipeline if 'scale' in t), size)
    divisor = cfg.model.data_preprocessor.get('pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in sorted(scale))
    return height, width


def is_detector(cfg: Config) -> bool:
    """Args: cfg: A config. Returns: Whether it has a detector's heads."""
    return 'roi_head' in cfg.model or 'bbox_head' in cfg.model


def _num_classes(cfg: Config) -> int:
    if not is_detector(cfg):
        return cfg.model.head.num_classes
    head = cfg.model.get('roi_head', cfg.model)['bbox_head']
    return (head[0] if isinstance(head, list) else head)['num_classes']


def fake_batch(
    cfg: Config, size: Tuple[int, int], num_images: int = 2
) -> dict:
    """A batch of noise with random labels, as the data loader would give it.

    Args:
        cfg: Of a detector or a classifier.
        size: Height and width in pixels.
        num_images: Images in the batch.

    Returns:
        ``inputs`` and ``data_samples``, for ``model.data_preprocessor``.
    """
    if is_detector(cfg):
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(
            num_images,
            [[3, *size]] * num_images,
            num_items=[2] * num_images,
            num_classes=_num_classes(cfg),
            with_mask=True,
        )
    from mmpretrain.structures import DataSample

    labels = torch.randint(_num_classes(cfg), (num_images,))
    return dict(
        inputs=torch.randint(256, (num_images, 3, *size), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(label) for label in labels],
    )
