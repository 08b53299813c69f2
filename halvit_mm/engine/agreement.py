"""Data, evaluator, model and checkpoint agree before the first step."""

import logging
import math
import re
from typing import Any, Dict, List, Optional, Sequence

from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log

from ..checkpoint import describe_classes, load_weights
from ..registry import HOOKS
from .checkpoint_hook import is_undefined, unwrap


@HOOKS.register_module()
class AgreementHook(Hook):
    """Refuses a run whose parts are of different data.

    A wrong number of classes ends in an error of indices or in none, and
    other class names or annotations in a wrong score.

    Args:
        load_from: Checkpoint to start from, by the one loader of this
            package; layers for each class are left out if the classes differ.
    """

    priority = 'VERY_HIGH'

    def __init__(self, load_from: Optional[str] = None) -> None:
        self.load_from = load_from

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare the classes of a checkpoint that is resumed.

        Raises:
            ValueError: If they are not those of the training data, or there
                are weights only.
        """
        meta = checkpoint.get('meta') or {}
        if 'epoch' not in meta:
            raise ValueError(
                'the training cannot be resumed: the checkpoint has weights '
                'only; start from them with --cfg-options load_from=CHECKPOINT'
            )
        there = (meta.get('dataset_meta') or {}).get('classes')
        here = _classes_of(runner.train_loop)
        if there and here:
            names = ('the checkpoint', 'the training data')
            if differ := describe_classes(there, here, names):
                raise ValueError(
                    f'the training cannot be resumed: {differ}; start from '
                    'its weights with --cfg-options load_from=CHECKPOINT'
                )

    def before_train(self, runner: Any) -> None:
        """Check all parts of the training, and load what it starts from.

        Raises:
            ValueError: If the parts differ.
        """
        model = unwrap(runner.model)
        classes = _classes_of(runner.train_loop)
        _check_heads(model, classes)
        if runner.val_loop is not None:
            _check_evaluation(runner.val_loop, classes)
            _check_save_best(runner)
        if self.load_from is not None:
            self._load(model, classes)

    def _load(self, model: Any, classes: Optional[Sequence[str]]) -> None:
        try:
            load_weights(
                model, self.load_from, classes=classes, new_classes=True
            )
        except ValueError as error:
            raise ValueError(
                f'{error}\nload_from is for a whole model of this '
                'architecture. Of another one the backbone alone is loaded '
                'by --cfg-options model.backbone.init_cfg.type=Pretrained '
                f'model.backbone.init_cfg.checkpoint={self.load_from}'
            ) from error

    def after_val_epoch(
        self, runner: Any, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Tell ``save_best`` of scores that this evaluation does not have."""
        for key in _best_of(runner) if metrics else ():
            key = next(iter(metrics)) if key == 'auto' else key
            if key not in metrics:
                problem = f'not among the scores, {list(metrics)}'
                metrics[key] = math.nan  # never better; absent, a KeyError
            elif is_undefined(metrics[key]):
                problem = (
                    f'{metrics[key]:g}, as where there is nothing to average'
                )
            else:
                continue
            print_log(
                f'save_best: {key} is {problem}: this evaluation saves no '
                'best checkpoint for it',
                logger='current',
                level=logging.WARNING,
            )

    def before_test(self, runner: Any) -> None:
        """Check all parts of a test.

        Raises:
            ValueError: If the parts differ.
        """
        classes = _classes_of(runner.test_loop)
        _check_heads(unwrap(runner.model), classes)
        _check_evaluation(runner.test_loop, classes)


def _classes_of(loop: Any) -> Optional[Sequence[str]]:
    meta = getattr(loop.dataloader.dataset, 'metainfo', None) or {}
    classes = meta.get('classes')
    return classes if isinstance(classes, (list, tuple)) else None


def _check_heads(model: Any, classes: Optional[Sequence[str]]) -> None:
    """Compare ``num_classes`` of each head with the classes of the data."""
    if classes is None:
        return
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        # proposals have no classes
        is_head = re.search(r'head(\.\d+)?$', name)  # of a cascade by number
        if 'rpn' in name or not is_head or count is None:
            continue
        if count != len(classes):
            raise ValueError(
                f'model.{name}.num_classes={count}, but the data set has '
                f'{len(classes)} classes: {list(classes[:9])}. With '
                '`--cfg-options classes=auto` both follow the annotations'
            )


def _best_of(runner: Any) -> List[str]:
    """The scores by which the best checkpoints are chosen."""
    found = []
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            found += hook.key_indicators
    return found


def _check_save_best(runner: Any) -> None:
    """Refuse to wait for the masks' scores where boxes are evaluated."""
    evaluator = getattr(runner.val_loop, 'evaluator', None)
    for metric in getattr(evaluator, 'metrics', []):
        kinds = getattr(metric, 'metrics', [])
        for key in _best_of(runner):
            prefix, _, name = key.rpartition('/')
            kind = name.partition('_')[0]
            if (
                prefix == metric.prefix
                and kind in ('bbox', 'segm')
                and kind not in kinds
            ):
                raise ValueError(
                    f'save_best={key}: val_evaluator.metric={kinds} does not '
                    'give it'
                )


def _check_evaluation(loop: Any, classes: Optional[Sequence[str]]) -> None:
    """Compare the data set of an evaluation with training and evaluator."""
    dataset = loop.dataloader.dataset
    here = _classes_of(loop)
    if here and classes:
        names = ('the data set of the evaluation', 'that of the training')
        if differ := describe_classes(here, classes, names):
            raise ValueError(
                f'{differ}. Set metainfo.classes of both alike; they may '
                'stand in any order in the annotation files'
            )
    evaluator = getattr(loop, 'evaluator', None)
    for metric in getattr(evaluator, 'metrics', []):
        if hasattr(metric, 'check_dataset'):
            metric.check_dataset(dataset)
        elif type(metric).__name__ in ('CocoMetric', 'FasterCocoMetric'):
            print_log(
                f'the evaluator {type(metric).__name__} of the host reads its '
                "annotations unchecked: set type='halvit_mm.CocoMetric'",
                logger='current',
                level=logging.WARNING,
            )
