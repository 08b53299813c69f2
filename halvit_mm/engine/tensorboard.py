"""Curves for TensorBoard that go on where a resumed run does."""

from typing import Optional

from mmengine import visualization

from ..registry import VISBACKENDS


@VISBACKENDS.register_module()
class TensorboardVisBackend(visualization.TensorboardVisBackend):
    """mmengine's back end, all of whose files are one run.

    Args:
        save_dir: Folder of the event files; those of resumed runs may lie
            there, too.
        purge_step: First step of this run: what an earlier one has logged
            from there on is not shown.
    """

    def __init__(self, save_dir: str, purge_step: Optional[int] = None):
        super().__init__(save_dir)
        self._purge_step = purge_step

    def _init_env(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._tensorboard = SummaryWriter(
            self._save_dir, purge_step=self._purge_step
        )
