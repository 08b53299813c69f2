"""Images to calibrate with."""

import copy
from typing import Iterator, List, Sequence, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor, nn

from ...compression import CalibrationConfig


class CalibrationBatches(Sequence[Tensor]):
    """Batches that are read when they are asked for, the same each time.

    Args:
        dataset: The training images, with the pipeline of testing.
        preprocessor: The model's preprocessor, which normalises and pads.
        indices: Which images are taken, in this order.
        batch_size: Images in a batch.
    """

    def __init__(
        self,
        dataset,
        preprocessor: nn.Module,
        indices: Sequence[int],
        batch_size: int,
    ) -> None:
        self.dataset = dataset
        self.preprocessor = preprocessor
        self.indices = indices
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.indices) // self.batch_size

    def __getitem__(self, number: int) -> Tensor:
        """Read a batch, (B, 3, H, W), counted from 0."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = number * self.batch_size
        chosen = self.indices[start : start + self.batch_size]
        samples = [self.dataset[i] for i in chosen]
        return self.preprocessor(pseudo_collate(samples))['inputs']


def calibration_batches(
    cfg: Config, model: nn.Module, config: CalibrationConfig
) -> Tuple[CalibrationBatches, CalibrationBatches]:
    """Take training images as the model sees them in testing.

    Labels only balance the choice, where the data set has one per image.

    Args:
        cfg: A config with ``train_dataloader`` and ``val_dataloader``.
        model: The model, for its preprocessor.
        config: Settings.

    Returns:
        Batches, normalised and padded, on the preprocessor's device: those to
        calibrate on, and those that are held out.

    Raises:
        ValueError: If the data set has fewer images.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    dataset_cfg = copy.deepcopy(cfg.train_dataloader.dataset)
    while 'dataset' in dataset_cfg:  # repeated, balanced: for training only
        dataset_cfg = dataset_cfg.dataset
    pipeline = next(_leaves(cfg.val_dataloader.dataset)).pipeline
    for leaf in _leaves(dataset_cfg):
        leaf.pipeline = copy.deepcopy(pipeline)
    dataset = DATASETS.build(dataset_cfg)
    size, held_out = config.batch_size, config.held_out
    wanted = (config.num_batches + held_out) * size
    if len(dataset) < wanted:
        raise ValueError(
            f'{config.num_batches} batches of {size} images and {held_out} '
            f'that are held out are asked for, the training set has '
            f'{len(dataset)} images: set {config.key}.num_batches, or --images'
        )
    chosen = _choose(dataset, wanted, config.seed)
    end = config.num_batches * size
    preprocessor = model.data_preprocessor
    return (
        CalibrationBatches(dataset, preprocessor, chosen[:end], size),
        CalibrationBatches(dataset, preprocessor, chosen[end:], size),
    )


def _leaves(dataset_cfg: ConfigDict) -> Iterator[ConfigDict]:
    """Find the configs of data sets inside a wrapper, or the one itself."""
    inner = [
        *filter(None, [dataset_cfg.get('dataset')]),
        *dataset_cfg.get('datasets', []),
    ]
    for part in inner:
        yield from _leaves(part)
    if not inner:
        yield dataset_cfg


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
