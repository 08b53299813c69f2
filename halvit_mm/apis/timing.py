"""Time measured in one way everywhere: events on GPUs, a counter on CPUs."""

import platform
import re
import statistics
import time
from pathlib import Path
from typing import Callable, Dict, Hashable, Iterator, List, Optional, Union

import torch

Device = Union[str, torch.device]


class Clock:
    """Milliseconds spent in the phases of some work.

    On a GPU it records events in the current stream, so the phases do not
    have to wait for each other; on a CPU it reads ``time.perf_counter``.

    Args:
        device: The device that does the work.
    """

    def __init__(self, device: Device = 'cpu') -> None:
        self.device = torch.device(device)
        self._marks: List[tuple] = []

    def mark(self, phase: Hashable) -> None:
        """Start a phase, and end the one before it.

        None starts none; a name that was used before adds to its phase.
        """
        if self.device.type == 'cuda':
            now = torch.cuda.Event(enable_timing=True)
            now.record(torch.cuda.current_stream(self.device))
        else:
            now = time.perf_counter()
        self._marks.append((phase, now))

    def phases(self) -> Dict[Hashable, float]:
        """Milliseconds of each phase, in order; waits for the GPU."""
        is_cuda = self.device.type == 'cuda'
        if is_cuda:
            torch.cuda.synchronize(self.device)
        total: Dict[Hashable, float] = {}
        for (phase, start), (_, end) in zip(self._marks, self._marks[1:]):
            if phase is not None:
                ms = (
                    start.elapsed_time(end) if is_cuda else 1e3 * (end - start)
                )
                total[phase] = total.get(phase, 0.0) + ms
        return total


def round_robin(names: List, rounds: int) -> Iterator[List]:
    """Yield all names for each round, with another one first each time."""
    for i in range(rounds):
        start = i % max(1, len(names))
        yield [*names[start:], *names[:start]]


def time_in_turns(
    runs: Dict[Hashable, Callable[[], object]],
    rounds: int,
    device: Device = 'cpu',
    in_a_row: int = 1,
) -> Dict[Hashable, float]:
    """Time several functions, which take turns.

    A slow moment of the machine then slows all of them down alike.

    Args:
        runs: Name -> function. Each is called once before anything is timed.
        rounds: Turns of each function, at least 1.
        device: The device that does the work.
        in_a_row: Calls in one turn. More than one hides the time that a GPU
            waits for launches, and what a CPU's caches lose between turns.

    Returns:
        For each name the seconds of one call. The mean is taken over the
        calls of a turn, then the median over the turns.

    Raises:
        ValueError: If ``rounds`` or ``in_a_row`` is below 1.
    """
    if rounds < 1 or in_a_row < 1:
        raise ValueError(
            f'rounds={rounds} and in_a_row={in_a_row} must be at least 1'
        )
    for run in runs.values():
        run()
    turns: Dict[Hashable, List[float]] = {name: [] for name in runs}
    for order in round_robin(list(runs), rounds):
        for name in order:
            clock = Clock(device)
            clock.mark('run')
            for _ in range(in_a_row):
                runs[name]()
            clock.mark(None)
            turns[name].append(clock.phases()['run'] / 1e3 / in_a_row)
    return {name: statistics.median(times) for name, times in turns.items()}


def device_name(device: Device = 'cpu', threads: Optional[int] = None) -> str:
    """Name the hardware that a time belongs to.

    It is the model of the GPU, or that of the CPU with the vector
    instructions and the number of threads that PyTorch uses, by default those
    of this process.
    """
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')  # of Linux
    text = info.read_text() if info.is_file() else ''
    # A virtual machine may call itself 'AMD EPYC': its family and model tell.
    found = {
        key: re.search(rf'^{key}\s*: (.*)', text, re.MULTILINE)
        for key in ('model name', 'cpu family', 'model')
    }
    name = platform.processor() or platform.machine()
    if all(found.values()):
        name = '{} (family {}, model {})'.format(
            *(match[1].strip() for match in found.values())
        )
    threads = threads or torch.get_num_threads()
    return (
        f'{name}, {torch.backends.cpu.get_cpu_capability()}, '
        f'{threads} thread{"s" * (threads > 1)}'
    )
