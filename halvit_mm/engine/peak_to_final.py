"""How far the last score is below the best one."""

import json
import math
from pathlib import Path
from typing import Dict, Optional, Tuple

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..registry import HOOKS


@HOOKS.register_module()
class PeakToFinalHook(Hook):
    """Log the best and the final score and their difference.

    The difference is the measure of stability of GroupedMLP / ShallowMLP: how
    many points of top-1 a run loses between its best epoch and its last one.
    The scores, and all metrics of the last validation, are written to
    ``peak_to_final.json`` in the work directory, where a resumed run reads
    them; a checkpoint is written before the validation of its epoch and so
    does not hold the score. NaN counts as lower than any number.

    Args:
        metric: Name of the score; larger is better.
    """

    priority = 'LOW'  # after the score was logged
    file_name = 'peak_to_final.json'

    def __init__(self, metric: str = 'accuracy/top1') -> None:
        self.metric = metric
        self._scores: Dict[int, float] = {}
        self._last: Dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Read the scores of a run that is resumed.

        The main process reads for all: without a shared disk the others do
        not have the file, and would validate alone in :meth:`after_train`.

        Args:
            runner: The runner whose training begins.

        Raises:
            ValueError: If the runner does not train by epochs.
        """
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                'PeakToFinalHook compares the scores of epochs, but under '
                f'{type(runner.train_loop).__name__} the epoch stays 0: train '
                'with an EpochBasedTrainLoop (train_cfg.by_epoch=True), or '
                'leave the hook out'
            )
        path = Path(runner.work_dir) / self.file_name
        found = [None]
        if runner.epoch and is_main_process() and path.is_file():
            found = [json.loads(path.read_text())]
        broadcast_object_list(found)
        (content,) = found
        self._scores = {}
        if content and content['metric'] == self.metric:
            scores = enumerate(content['scores'], 1)
            done = ((e, s) for e, s in scores if e <= runner.epoch)
            self._scores = {e: s for e, s in done if s is not None}
            self._last = content['metrics']

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Keep the score of an epoch.

        Args:
            runner: The runner that validated.
            metrics: Name -> value, of this validation.

        Raises:
            KeyError: If the score is not among the metrics.
        """
        if metrics is None or self.metric not in metrics:
            raise KeyError(
                f'there is no {self.metric!r} among {sorted(metrics or {})}: '
                'name another metric'
            )
        self._scores[runner.epoch] = float(metrics[self.metric])
        self._last = {name: float(value) for name, value in metrics.items()}
        if is_main_process():
            text = json.dumps(self._summary(), indent=1)
            path = Path(runner.work_dir) / self.file_name
            path.write_text(text + '\n')

    def after_train(self, runner: Runner) -> None:
        """Log the scores, after validating the last epoch if need be.

        Args:
            runner: The runner whose training ends.
        """
        if runner.epoch not in self._scores and runner.val_loop is not None:
            runner.val_loop.run()  # training ended between two validations
        if not self._scores:
            return
        runner.logger.info(
            '{metric}: best {best:.4f} in epoch {best_epoch}, final '
            '{final:.4f}, difference {difference:.4f}'.format(
                **self._summary()
            )
        )

    def _order(self, epoch: int) -> Tuple[bool, float]:
        score = self._scores[epoch]
        return not math.isnan(score), score

    def _summary(self) -> Dict:
        last = max(self._scores)
        best = max(self._scores, key=self._order)
        return dict(
            metric=self.metric,
            best=self._scores[best],
            best_epoch=best,
            final=self._scores[last],
            difference=self._scores[best] - self._scores[last],
            scores=[self._scores.get(epoch) for epoch in range(1, last + 1)],
            metrics=self._last,
        )
