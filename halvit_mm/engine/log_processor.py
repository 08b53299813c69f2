"""Lines of the log that tell how fast a training is."""

import resource
from typing import Any, Tuple

from mmengine import runner
from mmengine.device import is_cuda_available
from mmengine.dist import get_world_size

from ..registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class LogProcessor(runner.LogProcessor):
    """mmengine's, with images a second; without a GPU, memory as well.

    The images are those of all processes. The memory is the most that the
    main process has used so far, without its workers, in MiB; with a GPU it
    is the host's figure, of the GPU.
    """

    def get_log_after_iter(
        self, runner: Any, batch_idx: int, mode: str
    ) -> Tuple[dict, str]:
        """Format what was logged.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            mode: ``'train'``, ``'val'`` or ``'test'``.

        Returns:
            The scalars, and the line for the log.
        """
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        prefix = f'{mode}/' if self.log_with_hierarchy else ''
        seconds = tag.get(f'{prefix}time')
        if mode != 'train' or not seconds:
            return tag, line
        loader = runner.train_dataloader
        size = loader.batch_size or loader.batch_sampler.batch_size
        speed = size * get_world_size() / seconds
        tag[f'{prefix}images_per_s'] = speed
        line += f'  images/s: {speed:.2f}'
        if not is_cuda_available():
            # ru_maxrss is in KiB on Linux
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            tag['memory'] = used
            line += f'  memory: {used}'
        return tag, line
