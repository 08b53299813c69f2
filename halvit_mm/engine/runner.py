"""A runner whose terminal shows what a user reads."""

import logging
from typing import Any

from mmengine import runner
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from .processes import prepare_workers

#: What messages of hundreds of lines start with, or end with: the
#: environment, the config, the hooks, and a line for each parameter.
_STARTS = ('\n' + '-' * 60, 'Config:\n', 'Hooks will be', 'paramwise_options')
_ENDS = ('is skipped since its requires_grad=False',)


class Runner(runner.Runner):
    """mmengine's runner, which logs long lists to the file only.

    Its loader processes are those of :func:`.prepare_workers`.
    """

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """Build a loader, as :class:`mmengine.runner.Runner` does."""
        loader = runner.Runner.build_dataloader(*args, **kwargs)
        prepare_workers(loader)
        return loader

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, as :class:`mmengine.runner.Runner` does."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_short)
        if logger.log_file:
            logger.info(
                'environment, config, hooks and settings of each parameter '
                f'are in {logger.log_file}'
            )
        return logger


def _is_short(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not (message.startswith(_STARTS) or message.endswith(_ENDS))
