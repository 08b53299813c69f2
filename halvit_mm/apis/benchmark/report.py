"""Where a result goes: the screen, a file, a picture."""

from pathlib import Path
from typing import Optional

from ...visualization import draw_benchmark
from .result import BenchmarkResult
from .table import append_markdown, print_result

__all__ = ['report']


def report(
    result: BenchmarkResult, out: str, markdown: Optional[str] = None
) -> Path:
    """Print a result, and write ``result.json`` and ``times.png``.

    Args:
        result: To be shown.
        out: Folder; the files go to a folder of the case in it.
        markdown: File to append the table to.

    Returns:
        The folder with the files.
    """
    folder = Path(out) / result.case['name']
    print_result(result)
    result.save(folder / 'result.json')
    if markdown:
        append_markdown(result, Path(markdown))
    quartiles = {
        v.name: v.quartiles for v in result.variants if v.quartiles is not None
    }
    if quartiles:
        draw_benchmark(
            f'{result.case["name"]}\n{result.environment["device"]}',
            quartiles,
            str(folder / 'times.png'),
            reference=result.reference,
            ideal=result.ideal_ms,
            missing=[v.name for v in result.variants if not v.quartiles],
        )
    return folder
