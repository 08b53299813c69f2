"""Batches of noise, with which a config can be tried without its data."""

from typing import Tuple

import torch
from mmengine.config import Config


def image_size(cfg: Config) -> Tuple[int, int]:
    """Height and width, in pixels, of the images that a model is tested with.

    For a detector it is the test scale in landscape format with the padding
    of the preprocessor; for a classifier, and for a detector that does not
    resize its images, it is the backbone's ``img_size``.
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
    """Whether a config's model has the heads of a detector."""
    return 'roi_head' in cfg.model or 'bbox_head' in cfg.model


def _num_classes(cfg: Config) -> int:
    if not is_detector(cfg):
        return cfg.model.head.num_classes
    head = cfg.model.get('roi_head', cfg.model)['bbox_head']
    return (head[0] if isinstance(head, list) else head)['num_classes']


def fake_batch(
    cfg: Config, size: Tuple[int, int], num_images: int = 2
) -> dict:
    """Make a batch of noise with random labels, as a data loader gives it.

    Args:
        cfg: Config of a detector or a classifier.
        size: Height and width in pixels.
        num_images: Number of images in the batch.
    """
    if is_detector(cfg):
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(
            num_images,
            [[3, *size]] * num_images,
            num_items=[2] * num_images,
            num_classes=_num_classes(cfg),
            with_mask=bool(cfg.model.get('roi_head', {}).get('mask_head')),
        )
    from mmpretrain.structures import DataSample

    labels = torch.randint(_num_classes(cfg), (num_images,))
    return dict(
        inputs=torch.randint(256, (num_images, 3, *size), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(label) for label in labels],
    )
