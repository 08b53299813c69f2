"""What a calibration shows while it runs."""

from typing import Dict

from rich import progress as bars
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from ...compression import Progress

#: Lines that a log gets, where nothing can be drawn again.
_LINES = 10


class LiveErrors:
    """A bar and the error of each unit; in a log, a line every tenth.

    Used as a context; :meth:`update` is for :func:`.calibrate`'s ``report``.
    """

    def __init__(self) -> None:
        console = Console()
        self.bar = bars.Progress(
            bars.TextColumn('{task.description}'),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
        )
        self.task = self.bar.add_task('calibrate', total=None)
        self.errors: Dict[str, float] = {}
        self.live = Live(get_renderable=self._render, console=console)
        self.is_drawn = console.is_terminal
        self.tenths = 0

    def __enter__(self) -> 'LiveErrors':
        """Wait for :meth:`start`."""
        return self

    def __exit__(self, *error) -> None:
        """End."""
        self.live.stop()

    def start(self) -> None:
        """Draw, once what has to be said before is printed."""
        if self.is_drawn:
            self.live.start()

    def update(self, progress: Progress) -> None:
        """Show where a calibration is."""
        self.errors.update(progress.losses)
        total = progress.total * progress.passes
        done = progress.total * progress.passes_done + progress.step
        self.bar.update(self.task, completed=done, total=total)
        tenths = done * _LINES // total
        if tenths > self.tenths and not self.is_drawn:
            worst = max(progress.losses, key=progress.losses.__getitem__)
            print(
                f'{done} of {total} steps, error now at most '
                f'{progress.losses[worst]:.4f}, in {worst}',
                flush=True,
            )
        self.tenths = tenths

    def _render(self) -> Group:
        table = Table('unit', 'error now')
        for unit, error in self.errors.items():
            table.add_row(unit, f'{error:.4f}')
        return Group(self.bar, table)
