"""Images to calibrate with."""

import copy
from typing import List

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor, nn

__all__ = ['calibration_batches']


def calibration_batches(
    cfg: Config, model: nn.Module, num_batches: int, batch_size: int, seed: int
) -> List[Tensor]:
    """Training images as the model sees them in testing.

    Labels only balance the choice, where the data set has one per image.

    Args:
        cfg: With ``train_dataloader`` and ``val_dataloader``.
        model: For its preprocessor.
        num_batches: How many.
        batch_size: Images in one.
        seed: Of the choice.

    Returns:
        (B, 3, H, W) each, normalised and padded, on the CPU.

    Raises:
        ValueError: If the data set has fewer images.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    dataset_cfg = copy.deepcopy(cfg.train_dataloader.dataset)
    dataset_cfg.pipeline = copy.deepcopy(cfg.val_dataloader.dataset.pipeline)
    dataset = DATASETS.build(dataset_cfg)
    wanted = num_batches * batch_size
    if len(dataset) < wanted:
        raise ValueError(
            f'{num_batches} batches of {batch_size} images are asked for, the '
            f'training set has {len(dataset)}: set fips.num_batches'
        )
    chosen = _choose(dataset, wanted, seed)
    batches = []
    for start in range(0, wanted, batch_size):
        samples = [dataset[i] for i in chosen[start : start + batch_size]]
        data = model.data_preprocessor(pseudo_collate(samples))
        batches.append(data['inputs'].cpu())
    return batches


def _choose(dataset, wanted: int, seed: int) -> List[int]:
    """Indices in random order, class by class in turn where labels tell."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator).tolist()
    if not hasattr(dataset, 'get_gt_labels'):
        return order[:wanted]
    labels = dataset.get_gt_labels()
    seen: dict = {}
    turns = []
    for index in order:
        label = int(labels[index])
        turns.append((seen.get(label, 0), index))
        seen[label] = seen.get(label, 0) + 1
    turns.sort(key=lambda turn: turn[0])  # stable: still random in a turn
    return [index for _, index in turns[:wanted]]
