"""Mean and spread over the seeds of a study."""

import statistics
from pathlib import Path
from typing import Dict, List, Tuple

from rich.console import Console
from rich.table import Table

from .plan import Study

__all__ = ['mean_and_spread', 'print_study', 'write_study']


def _by_variant(results: List[Dict]) -> Dict[str, List[Dict]]:
    groups: Dict[str, List[Dict]] = {}
    for result in results:
        groups.setdefault(result['variant'], []).append(result)
    return groups


def mean_and_spread(values: List[float], decimals: int) -> str:
    """Args: values: Over seeds. Returns: Their mean ± deviation, as text."""
    mean = f'{statistics.mean(values):.{decimals}f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {statistics.stdev(values):.{decimals}f}'


def _rows(results: List[Dict]) -> Tuple[List[str], List[List[str]]]:
    columns = ['variant', 'parameters', 'effective', 'seeds', 'final', 'best']
    also = list(results[0].get('also', {})) if results else []
    columns += ['best - final', *also, 'min. a run']
    # per cent, or shares of 1
    decimals = 2 if any(r['best'] > 1 for r in results) else 3
    rows = []
    for variant, group in _by_variant(results).items():
        rows.append(
            [
                variant,
                f'{group[0]["stored"]:,}',
                f'{group[0]["effective"]:,}',
                str(len(group)),
                *(
                    mean_and_spread([r[key] for r in group], decimals)
                    for key in ('final', 'best', 'difference')
                ),
                *(
                    mean_and_spread([r['also'][key] for r in group], decimals)
                    for key in also
                ),
                f'{statistics.mean(r["seconds"] for r in group) / 60:.1f}',
            ]
        )
    return columns, rows


def print_study(study: Study, results: List[Dict]) -> None:
    """Print mean and standard deviation over seeds as a table.

    Args:
        study: For the title.
        results: From :func:`run_study`.
    """
    columns, rows = _rows(results)
    table = Table(title=f'{study.name}: {study.metric}')
    for column in columns:
        justify = 'right' if table.columns else 'left'
        table.add_column(column, justify=justify)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def write_study(study: Study, results: List[Dict], out: Path) -> None:
    """Write ``table.md``.

    Args:
        study: For the title.
        results: From :func:`run_study`.
        out: Folder.
    """
    columns, rows = _rows(results)
    lines = [columns, ['---'] * len(columns), *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    epochs = sorted({r['epochs'] for r in results})
    devices = sorted({r['device'] for r in results})
    (out / 'table.md').write_text(
        f'{study.metric} after {", ".join(map(str, epochs))} epochs on '
        f'{", ".join(devices)}:\n'
        f'`python tools/analysis_tools/compare.py {study.path}`\n\n{text}\n'
    )
