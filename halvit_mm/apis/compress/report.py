"""What is said before and after a compression."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Dict, List

from ...compression import Compression, Structure
from ..table import Table
from .backbone import CompressionResult
from .estimate import UnitPlan


def print_plan(
    compression: Compression, plans: List[List[UnitPlan]], out: Path
) -> None:
    """Print ranks and parameters, and what the calibration will take.

    Args:
        compression: A compression, factorised.
        plans: From :func:`.estimate.estimate`.
        out: Folder that gets files of activations.
    """
    config = compression.config
    rows = []
    for structure, error in zip(
        compression.structures, compression.svd_errors
    ):
        size = structure.parameters(config.sparsity)
        rows.append(_row(structure, str(structure.rank), size, f'{error:.4f}'))
    for structure in compression.kept_dense:
        size = structure.dense_parameters
        rows.append(_row(structure, 'stays dense', size, '-'))
    Table(rows, title=f'FiPS: budget {config.budget:.0%}').print()
    if not plans:
        return
    steps = config.epochs * config.num_batches
    passes = 'pass' if len(plans) == 1 else 'passes'
    Table(
        [
            {
                'unit': unit.name,
                'pass': str(number),
                'activations, MB': f'{unit.num_bytes / 1e6:,.0f}',
                'about, min': f'{unit.seconds / 60:.1f}',
            }
            for number, units in enumerate(plans, 1)
            for unit in units
        ],
        title=f'{len(plans)} {passes} of {steps} steps: {config.method}, '
        f'sparsity {config.sparsity}, over the {config.prune_scope}',
    ).print()
    most = max(sum(unit.num_bytes for unit in units) for units in plans)
    in_memory = min(most, config.memory_limit)
    minutes = sum(u.seconds for units in plans for u in units) / 60
    print(
        f'activations: at most {in_memory / 1e9:.1f} GB in memory, '
        f'{(most - in_memory) / 1e9:.1f} GB in files at a time '
        f'({shutil.disk_usage(out).free / 1e9:.0f} GB are free there); about '
        f'{minutes:.0f} min'
    )


def _row(
    structure: Structure, rank: str, parameters: float, svd_error: str
) -> Dict[str, str]:
    """One group, for the table."""
    return {
        'group': structure.name,
        'weights': str(len(structure.targets)),
        'd': str(structure.dim),
        'columns': str(structure.width),
        'rank': rank,
        'SVD error': svd_error,
        'parameters': f'{parameters:,.0f}',
        'of dense': f'{parameters / structure.dense_parameters:.2%}',
    }


def _rows(result: CompressionResult) -> List[Dict[str, str]]:
    """One row per unit, for the table and the picture."""
    rank_of = {
        target.name: structure.rank
        for structure in result.compression.structures
        for target in structure.targets
    }
    rows = []
    for error in result.errors:
        own = [n for n in rank_of if f'{n}.'.startswith(f'{error.name}.')]
        rows.append(
            {
                'unit': error.name,
                'rank': str(rank_of[own[0]]),
                'density': f'{result.density(own):.4f}',
                'error before': f'{error.before:.5f}',
                'error after': f'{error.after:.5f}',
            }
        )
    return rows


def write_report(
    result: CompressionResult, out: Path, name: str
) -> List[Dict[str, str]]:
    """Write ``report.json`` and ``report.md``.

    Args:
        result: From :func:`.backbone.compress`.
        out: Folder.
        name: Name of the model, for the title.

    Returns:
        Rows of the table of units.
    """
    rows = _rows(result)
    compression, config = result.compression, result.compression.config
    before, after = result.summed_errors
    dense, kept = result.dense_parameters, result.parameters
    content = dict(
        settings=asdict(config),
        groups=[
            dict(
                structure=structure,
                svd_error=error,
                dense_parameters=structure.dense_parameters,
                parameters=structure.parameters(config.sparsity),
            )
            for structure, error in zip(
                compression.structures, compression.svd_errors
            )
        ],
        kept_dense=[s._asdict() for s in compression.kept_dense],
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
    times = ', '.join(
        f'{key} {1e3 * value:.1f} ms' for key, value in result.seconds.items()
    )
    dense_names = ', '.join(
        f'{s.name} ({s.targets[0].name}, ...)' for s in compression.kept_dense
    )
    stays_dense = (
        f'\nNot smaller when factorised, so kept dense: {dense_names}.\n'
        if dense_names
        else ''
    )
    (out / 'report.md').write_text(
        f"""# {name}, compressed by FiPS

{kept:,.0f} of {dense:,} parameters ({result.share:.2%}; budget
{config.budget:.0%}, sparsity {config.sparsity},
{config.method}, compared over the {config.prune_scope}).
File: {result.file_bytes / 1e6:.2f} MB instead of
{result.original_bytes / 1e6:.2f} MB. Summed error {before:.4f} before
calibration, {after:.4f} after it; an error is relative to the energy of the
unit's output.
{stays_dense}
{Table(rows) if rows else 'No unit was changed.'}

A pass of the backbone: {times}. Faster here: `{result.recommended}`.

![density and error by depth](report.png)
"""
    )
    return rows
