"""A run that is resumed is the undisturbed run, to the bit on one device.

No state of a random generator is stored. All are seeded anew from the seed of
the run: in the main process from the process and the iteration, for a sample
from the epoch and its place in it. Neither the number of workers nor a start
in the middle of an epoch matters then.
"""

import random
from typing import Any, Iterator, List, Optional

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS as HOST_SAMPLERS
from mmengine.registry import DATASETS as HOST_DATASETS
from mmengine.runner import EpochBasedTrainLoop as HostTrainLoop
from torch.utils.data import BatchSampler, Dataset

from ..registry import DATA_SAMPLERS, DATASETS, HOOKS, LOOPS


def seed_generators(*numbers: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators of this process.

    Args:
        numbers: At least 0; each combination gives other seeds.
    """
    state = np.random.SeedSequence(numbers).generate_state(3)
    first, second, third = map(int, state)
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)


class _Place(int):
    """Index of a sample that knows the seed, the epoch and its place."""

    where: tuple = ()

    def __reduce__(self):
        return _place, (int(self), self.where)


def _place(index: int, where: tuple) -> _Place:
    place = _Place(index)
    place.where = where
    return place


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A data set whose samples depend on their place in the run only.

    Everything but the samples is the inner data set's.

    Args:
        dataset: The data set, or its config.
    """

    def __init__(self, dataset: Any) -> None:
        if isinstance(dataset, dict):
            dataset = HOST_DATASETS.build(dataset)
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Hooks of the hosts exchange the pipeline, for example.
        owner = super() if name == 'dataset' else self.dataset
        owner.__setattr__(name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if where := getattr(index, 'where', ()):
            seed_generators(*where)
        return self.dataset[int(index)]


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(BatchSampler):
    """Batches that tell each sample its place, and may begin in mid epoch.

    Args:
        sampler: Gives indices that depend on its seed and epoch.
        batch_size: Samples of a batch.
        seed: Of the run.
        drop_last: Whether a smaller last batch is left out.
        batch_sampler: Config of another batch sampler, such as mmdet's by
            aspect ratio, whose batches are taken.
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        seed: int = 0,
        drop_last: bool = False,
        batch_sampler: Optional[dict] = None,
    ) -> None:
        if batch_sampler is None:
            self.inner = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.inner = HOST_SAMPLERS.build(
                batch_sampler,
                default_args=dict(sampler=sampler, batch_size=batch_size),
            )
        super().__init__(sampler, batch_size, drop_last)
        self.seed = seed
        self.skipped = 0  # batches of the next epoch

    def __iter__(self) -> Iterator[List[int]]:
        skipped, self.skipped = self.skipped, 0
        epoch = getattr(self.sampler, 'epoch', 0)
        rank = get_rank()
        for number, batch in enumerate(self.inner):
            if number >= skipped:
                yield [
                    _place(int(index), (self.seed, epoch, rank, number, i))
                    for i, index in enumerate(batch)
                ]

    def __len__(self) -> int:
        return len(self.inner)


@LOOPS.register_module()
class EpochBasedTrainLoop(HostTrainLoop):
    """mmengine's loop, which may begin in the middle of an epoch."""

    def run_epoch(self) -> None:
        """Train the rest of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if done:
            self.dataloader.batch_sampler.skipped = done
        for index, data_batch in enumerate(self.dataloader, done):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@HOOKS.register_module()
class SeedHook(Hook):
    """Seeds the main process anew before each step.

    Args:
        seed: Of the run.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Note how many steps an epoch has."""
        length = len(runner.train_loop.dataloader)
        checkpoint['meta']['steps_per_epoch'] = length

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Begin a started epoch anew if its steps are others now.

        They are after a change of the batch, the processes or the data.
        """
        meta = checkpoint.get('meta', {})
        there = meta.get('steps_per_epoch')
        here = len(runner.train_loop.dataloader)
        if there in (None, here) or not runner.cfg.get('resume'):
            return
        done = meta['iter'] - meta['epoch'] * there
        meta['iter'] = meta['epoch'] * here
        print_log(
            f'an epoch has {here} steps, in the checkpoint {there} '
            f'({get_world_size()} processes now): epoch {meta["epoch"] + 1} '
            f'begins anew, of which {done} steps were done',
            logger='current',
        )

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed what the model draws: dropout, drop path, mixup."""
        seed_generators(self.seed, get_rank(), runner.iter)


def make_exact(runner: Any) -> bool:
    """Change a runner, before its training, so that it is resumed exactly.

    Args:
        runner: Of a training by epochs; others are left as they are.

    Returns:
        Whether it was changed.
    """
    train_cfg, loader = runner._train_loop, runner._train_dataloader
    if not isinstance(train_cfg, dict) or not isinstance(loader, dict):
        return False
    kind = train_cfg.get('type', 'EpochBasedTrainLoop')
    if kind != 'EpochBasedTrainLoop' or not train_cfg.get('by_epoch', True):
        return False
    train_cfg.pop('by_epoch', None)
    train_cfg['type'] = 'halvit_mm.EpochBasedTrainLoop'
    loader['dataset'] = dict(
        type='halvit_mm.SeededDataset', dataset=loader['dataset']
    )
    loader['batch_sampler'] = dict(
        type='halvit_mm.ResumableBatchSampler',
        seed=runner.seed,
        drop_last=loader.pop('drop_last', False),
        batch_sampler=loader.get('batch_sampler'),
    )
    runner.register_hook(SeedHook(runner.seed))
    return True
