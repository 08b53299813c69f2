"""Scores and errors of a study of compression by budget."""

import statistics
from pathlib import Path
from typing import Dict, List, Tuple

from rich.console import Console
from rich.table import Table

from ..study import mean_and_spread
from .study import ORIGINAL, CompressionStudy

__all__ = ['print_compression_study', 'write_compression_study']


def _rows(results: List[Dict]) -> Tuple[List[str], List[List[str]]]:
    compressed = [r for r in results if r['variant'] != ORIGINAL]
    budgets = sorted({r['budget'] for r in compressed})
    rows = []
    for variant in dict.fromkeys(r['variant'] for r in compressed):
        group = [r for r in compressed if r['variant'] == variant]
        row = [variant]
        for budget in budgets:
            found = [r for r in group if r['budget'] == budget]
            row.append(_cell(found))
        rows.append(row)
    return ['variant', *(f'{budget:.0%}' for budget in budgets)], rows


def _cell(results: List[Dict]) -> str:
    """Score over seeds, and the error that is left."""
    if not results:
        return '-'
    score = mean_and_spread([r['score'] for r in results], 2)
    error = statistics.mean(r['after'] for r in results)
    return f'{score} ({error:.3f})'


def _original(results: List[Dict]) -> str:
    scores = [r['score'] for r in results if r['variant'] == ORIGINAL]
    return f'{scores[0]:.2f}' if scores else '-'


def print_compression_study(
    study: CompressionStudy, results: List[Dict]
) -> None:
    """Print scores by variant and budget.

    Args:
        study: For the title.
        results: From :func:`.study.run_compression_study`.
    """
    columns, rows = _rows(results)
    table = Table(
        title=f'{study.metric}, the original {_original(results)} '
        '(in brackets: error of the units, summed)'
    )
    for column in columns:
        table.add_column(column, justify='right' if table.columns else 'left')
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def write_compression_study(
    study: CompressionStudy, results: List[Dict], out: Path
) -> None:
    """Write ``table.md``.

    Args:
        study: For the title.
        results: From :func:`.study.run_compression_study`.
        out: Folder.
    """
    columns, rows = _rows(results)
    lines = [columns, ['---'] * len(columns), *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    devices = ', '.join(sorted({r['device'] for r in results}))
    (out / 'table.md').write_text(
        f'{study.metric} by budget, the original {_original(results)}; in '
        'brackets the errors of all units, each relative to the energy of '
        f'its output, summed; {devices}:\n'
        f'`python tools/analysis_tools/compare_compression.py {study.path}`'
        f'\n\n{text}\n'
    )
