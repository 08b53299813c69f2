"""What is said before and after a compression."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import List

from rich.console import Console
from rich.table import Table

from ...compression import Decomposition
from .run import CompressionResult, UnitPlan
from .settings import FiPSSettings

__all__ = ['print_plan', 'write_report']


def print_plan(
    settings: FiPSSettings,
    groups: List[Decomposition],
    plans: List[List[UnitPlan]],
    out: Path,
) -> None:
    """Print ranks and parameters, and what the calibration will take.

    Args:
        settings: Of the compression.
        groups: From :func:`halvit_mm.compression.prepare`.
        plans: From :func:`.run.estimate`.
        out: Folder that gets files of activations.
    """
    table = Table(title=f'FiPS: budget {settings.budget:.0%}')
    columns = ('group', 'weights', 'd', 'columns', 'rank', 'SVD error')
    for column in (*columns, 'parameters', 'of dense'):
        table.add_column(column, justify='right' if table.columns else 'left')
    for part in groups:
        structure = part.structure
        table.add_row(
            structure.name,
            str(len(structure.targets)),
            str(structure.dim),
            str(sum(t.width for t in structure.targets)),
            str(structure.rank),
            f'{part.svd_error:.4f}',
            f'{part.parameters:,.0f}',
            f'{part.parameters / part.dense_parameters:.2%}',
        )
    console = Console(width=100)
    console.print(table)
    steps = settings.epochs * settings.num_batches
    passes = 'pass' if len(plans) == 1 else 'passes'
    table = Table(
        title=f'{len(plans)} {passes} of {steps} steps: {settings.method}, '
        f'sparsity {settings.sparsity}, over the {settings.prune_scope}'
    )
    for column in ('unit', 'pass', 'activations, MB', 'about, min'):
        table.add_column(column, justify='right' if table.columns else 'left')
    for number, units in enumerate(plans, 1):
        for unit in units:
            table.add_row(
                unit.name,
                str(number),
                f'{unit.num_bytes / 1e6:,.0f}',
                f'{unit.seconds / 60:.1f}',
            )
    console.print(table)
    most = max(sum(unit.num_bytes for unit in units) for units in plans)
    in_memory = min(most, settings.memory_limit)
    console.print(
        f'activations: at most {in_memory / 1e9:.1f} GB in memory, '
        f'{(most - in_memory) / 1e9:.1f} GB in files at a time, '
        f'{shutil.disk_usage(out).free / 1e9:.0f} GB are free there; about '
        f'{sum(u.seconds for units in plans for u in units) / 60:.0f} min'
    )


def write_report(
    result: CompressionResult, out: Path, name: str
) -> List[List[str]]:
    """Write ``report.json`` and ``report.md``.

    Args:
        result: Of :func:`.run.compress`.
        out: Folder.
        name: Of the model, for the title.

    Returns:
        Rows of the table of units.
    """
    rank_of = {
        target.name: group.structure.rank
        for group in result.groups
        for target in group.structure.targets
    }
    rows = []
    for error in result.errors:
        own = [n for n in rank_of if f'{n}.'.startswith(f'{error.name}.')]
        density = result.density(own)
        rows.append(
            [
                error.name,
                str(rank_of[own[0]]),
                f'{density:.4f}',
                f'{error.before:.5f}',
                f'{error.after:.5f}',
            ]
        )
    before, after = result.summed_errors
    dense, kept = result.dense_parameters, result.parameters
    content = dict(
        settings=asdict(result.settings),
        groups=[g._asdict() for g in result.groups],
        errors=[e._asdict() for e in result.errors],
        densities={name: result.density([name]) for name in result.kept},
        parameters=kept,
        dense_parameters=dense,
        file_bytes=result.file_bytes,
        original_bytes=result.original_bytes,
        seconds=result.seconds,
        recommended=result.recommended,
    )
    (out / 'report.json').write_text(json.dumps(content, indent=1) + '\n')
    head = ['unit', 'rank', 'density', 'error before', 'error after']
    lines = [head, ['---'] * len(head), *rows]
    table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    times = ', '.join(
        f'{key} {1e3 * value:.1f} ms' for key, value in result.seconds.items()
    )
    (out / 'report.md').write_text(
        f"""# {name}, compressed by FiPS

{kept:,.0f} of {dense:,} parameters ({result.share:.2%}; budget
{result.settings.budget:.0%}, sparsity {result.settings.sparsity},
{result.settings.method}, compared over the {result.settings.prune_scope}).
File: {result.file_bytes / 1e6:.2f} MB instead of
{result.original_bytes / 1e6:.2f} MB. Summed error {before:.4f} before
calibration, {after:.4f} after it; an error is relative to the energy of the
unit's output.

{table}

A pass of the backbone: {times}. Faster here: `{result.recommended}`.

![density and error by depth](report.png)
"""
    )
    return rows
