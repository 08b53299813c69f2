"""A benchmark as a table, on screen and in Markdown."""

import math
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

from rich.console import Console
from rich.table import Table

from .result import BenchmarkResult, VariantResult

__all__ = ['append_markdown', 'notes', 'print_result', 'table_rows']

_MISSING = '-'


class _Column(NamedTuple):
    title: str
    value: Callable[[BenchmarkResult, VariantResult], Optional[float]]
    form: str = ''  # by default four digits


def _median(result, variant):
    return variant.quartiles and variant.quartiles[1]


def _ideal_share(result, variant):
    ideal = result.ideal_ms
    median = _median(result, variant)
    return ideal / median * 100 if ideal and median else None


def _phase(name):
    return lambda result, variant: variant.phase(name)


def _mega(value: Optional[int]) -> Optional[float]:
    return None if value is None else value / 1e6


_COLUMNS = (
    _Column('median ms', _median),
    _Column('25 %', lambda r, v: v.quartiles and v.quartiles[0]),
    _Column('75 %', lambda r, v: v.quartiles and v.quartiles[2]),
    _Column('time / {reference}', BenchmarkResult.ratio, '{:.3f}'),
    _Column('{unit} / s', BenchmarkResult.throughput),
    _Column('forward ms', _phase('forward')),
    _Column('backward ms', _phase('backward')),
    _Column('optimiser ms', _phase('optimiser')),
    _Column('of ideal %', _ideal_share, '{:.0f}'),
    _Column('peak MB', lambda r, v: _mega(v.peak_bytes)),
    _Column('saved MB', lambda r, v: _mega(v.saved and v.saved.activations)),
    _Column('saved B / elem.', BenchmarkResult.saved_per_channel, '{:.1f}'),
    _Column(
        'weight copies MB', lambda r, v: _mega(v.saved and v.saved.weights)
    ),
    _Column('first step s', lambda r, v: v.first_seconds),
)


def _text(value: Optional[float], form: str) -> str:
    if value is None:
        return _MISSING
    if form:
        return form.format(value)
    before = math.floor(math.log10(abs(value))) + 1 if value else 4
    return f'{value:,.{min(6, max(0, 4 - before))}f}'


def table_rows(result: BenchmarkResult) -> List[List[str]]:
    """The table as text; a column without any value is left out.

    Args:
        result: To be shown.

    Returns:
        The header and a row for each variant, ``-`` for what was not
        measured.
    """
    columns = [['variant', *(v.name for v in result.variants)]]
    for column in _COLUMNS:
        values = [column.value(result, v) for v in result.variants]
        if any(value is not None for value in values):
            names = dict(reference=result.reference, unit=result.unit)
            cells = (_text(value, column.form) for value in values)
            columns.append([column.title.format(**names), *cells])
    return [list(row) for row in zip(*columns)]


def notes(result: BenchmarkResult) -> List[str]:
    """What belongs under the table.

    Args:
        result: To be shown.

    Returns:
        Sentences: the device, the ceilings, what was not measured and why.
    """
    env = result.environment
    lines = [
        f'{env["device"]}, torch {env["torch"]}, CUDA {env["cuda"] or "-"}, '
        f'{env["threads"]} threads, operators: {env["operators"]} '
        f'({env["operators_reason"]}).',
        f'Median and quartiles of {result.settings["rounds"]} rounds, '
        'forward and, in training, backward, without the optimiser; the '
        'ratio is the median over the pairs of a round. elem.: token, '
        'channel and layer.',
    ]
    if ceilings := result.ceilings:
        rates = ', '.join(f'{k}: {v:.3g}' for k, v in ceilings.tflops.items())
        lines.append(
            f'Measured TFLOP/s ({ceilings.dtype}) of {rates}; copy '
            f'{ceilings.gbytes:.3g} GB/s.'
        )
    if result.ideal_ms:
        lines.append(
            f'Ideal: {result.flops / 1e9:,.4g} GFLOP of products and '
            f'attention at {result.ceilings.best_tflops:.3g} TFLOP/s take '
            f'{result.ideal_ms:.3g} ms.'
        )
    lines += [f'{v.name}: {v.reason}.' for v in result.variants if v.reason]
    return lines


def print_result(result: BenchmarkResult) -> None:
    """Args: result: Printed as a table, with its notes."""
    header, *rows = table_rows(result)
    table = Table(title=result.case['name'])
    for title in header:
        table.add_column(title, justify='right' if table.columns else 'left')
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(150, Console().width))
    console.print(table)
    for line in notes(result):
        console.print(line, markup=False, highlight=False)


def append_markdown(result: BenchmarkResult, path: Path) -> None:
    """Append the table, its notes and its command line to a file.

    Args:
        result: To be shown.
        path: Made where it does not exist.
    """
    header, *rows = table_rows(result)
    rule = ['---', *['---:'] * (len(header) - 1)]
    table = ('| ' + ' | '.join(row) + ' |' for row in (header, rule, *rows))
    command = ' '.join(result.command)
    lines = [f'### {result.case["name"]}', '', f'`{command}`', '', *table, '']
    lines += [f'* {line}' for line in notes(result)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        file.write('\n'.join(lines) + '\n\n')
