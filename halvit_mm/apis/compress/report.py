"""What is said before and after a compression."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List

from ...compression import Compressing, Pruning, sparsity_of
from ...visualization import draw_compression
from ..table import Table
from .backbone import CompressionResult
from .estimate import UnitPlan


def print_plan(
    compression: Compressing, plans: List[List[UnitPlan]], out: Path
) -> None:
    """Print what remains, and what the calibration will take.

    Args:
        compression: A compression, prepared.
        plans: From :func:`.estimate.estimate`.
        out: Folder that gets files of activations.
    """
    config = compression.config
    if not isinstance(compression, Pruning):
        rows = _group_rows(compression)
        Table(rows, title=f'FiPS: budget {config.budget:.0%}').print()
    if not plans:
        return
    steps = config.epochs * config.num_batches
    passes = 'pass' if len(plans) == 1 else 'passes'
    rows = [
        {
            'unit': unit.name,
            'pass': str(number),
            'activations, MB': f'{unit.num_bytes / 1e6:,.0f}',
            'about, min': f'{unit.seconds / 60:.1f}',
        }
        for number, units in enumerate(plans, 1)
        for unit in units
    ]
    if isinstance(compression, Pruning):
        rows = [{**row, **compression.row_of(row['unit'])} for row in rows]
    title = f'{len(plans)} {passes} of {steps} steps: {_settings(compression)}'
    Table(rows, title=title).print()
    most = max(sum(unit.num_bytes for unit in units) for units in plans)
    in_memory = min(most, config.memory_limit)
    minutes = sum(u.seconds for units in plans for u in units) / 60
    print(
        f'activations: at most {in_memory / 1e9:.1f} GB in memory, '
        f'{(most - in_memory) / 1e9:.1f} GB in files at a time '
        f'({shutil.disk_usage(out).free / 1e9:.0f} GB are free there); about '
        f'{minutes:.0f} min'
    )


def _settings(compression: Compressing) -> str:
    """What a title says of the settings."""
    config = compression.config
    if isinstance(compression, Pruning):
        return f'prune to {config.budget:.0%} of the hidden units'
    found = {sparsity_of(s, config) for s in compression.structures}
    sparsity = ', '.join(f'{each:.4g}' for each in sorted(found))
    return (
        f'{config.method}, sparsity {sparsity or config.sparsity}, over the '
        f'{config.prune_scope}'
    )


def _group_rows(compression: Compressing) -> List[Dict[str, str]]:
    """Groups of FiPS, for the table."""
    rows = []
    structures = [*compression.structures, *compression.kept_dense]
    errors = [*compression.svd_errors, *[None] * len(compression.kept_dense)]
    for structure, error in zip(structures, errors):
        dense = structure.dense_parameters
        is_dense = error is None
        sparsity = sparsity_of(structure, compression.config)
        size = dense if is_dense else structure.parameters(sparsity)
        rows.append(
            {
                'group': structure.name,
                'weights': str(len(structure.targets)),
                'd': str(structure.dim),
                'columns': str(structure.width),
                'rank': 'stays dense' if is_dense else str(structure.rank),
                'SVD error': '-' if is_dense else f'{error:.4f}',
                'parameters': f'{size:,.0f}',
                'of dense': f'{size / dense:.2%}',
            }
        )
    return rows


def write_report(result: CompressionResult, out: Path, name: str) -> None:
    """Write ``report.json``, ``report.md`` and ``report.png``.

    Args:
        result: From :func:`.backbone.compress`.
        out: Folder.
        name: Name of the model, for the title.
    """
    compression, errors = result.compression, result.errors
    content = dict(
        settings=asdict(compression.config),
        errors=[e._asdict() for e in errors],
        shares={e.name: compression.share_of(e.name) for e in errors},
        parameters=compression.parameters,
        dense_parameters=compression.dense_parameters,
        file_bytes=result.file_bytes,
        original_bytes=result.original_bytes,
        seconds=result.seconds,
        recommended=result.recommended,
        **_details(compression),
    )
    (out / 'report.json').write_text(json.dumps(content, indent=1) + '\n')
    (out / 'report.md').write_text(_page(result, name))
    draw_compression(
        [error.name for error in errors],
        list(content['shares'].values()),
        [error.before for error in errors],
        [error.after for error in errors],
        str(out / 'report.png'),
    )


def _details(compression: Compressing) -> Dict[str, Any]:
    """What the JSON says beside the settings: groups, or widths."""
    if isinstance(compression, Pruning):
        widths = compression.widths.items()
        return dict(widths={name: w._asdict() for name, w in widths})
    pairs = zip(compression.structures, compression.svd_errors)
    names = [t.name for s in compression.structures for t in s.targets]
    return dict(
        groups=[
            dict(
                structure=structure,
                svd_error=error,
                dense_parameters=structure.dense_parameters,
                parameters=structure.parameters(
                    sparsity_of(structure, compression.config)
                ),
            )
            for structure, error in pairs
        ],
        kept_dense=[s._asdict() for s in compression.kept_dense],
        densities={name: compression.density([name]) for name in names},
    )


def _page(result: CompressionResult, name: str) -> str:
    compression = result.compression
    before, after = result.summed_errors
    way = (
        'pruned' if isinstance(compression, Pruning) else 'compressed by FiPS'
    )
    times = ', '.join(
        f'{key} {1e3 * value:.1f} ms' for key, value in result.seconds.items()
    )
    dense_names = ', '.join(
        f'{s.name} ({s.targets[0].name}, ...)'
        for s in getattr(compression, 'kept_dense', ())
    )
    stays_dense = (
        f'\nNot smaller when factorised, so kept dense: {dense_names}.\n'
        if dense_names
        else ''
    )
    rows = [
        {
            'unit': error.name,
            **compression.row_of(error.name),
            'error before': f'{error.before:.5f}',
            'error after': f'{error.after:.5f}',
            'on held-out images': '-'
            if error.held_out is None
            else f'{error.held_out:.5f}',
        }
        for error in result.errors
    ]
    return f"""# {name}, {way}

{compression.parameters:,} of {compression.dense_parameters:,} parameters
({result.share:.2%}; budget {compression.config.budget:.0%};
{_settings(compression)}).
File: {result.file_bytes / 1e6:.2f} MB instead of
{result.original_bytes / 1e6:.2f} MB. Summed error {before:.4f} before
calibration, {after:.4f} after it; an error is relative to the energy of the
unit's output.
{stays_dense}
{Table(rows) if rows else 'No unit was changed.'}

A pass of the backbone: {times}. Faster here: `{result.recommended}`.

![share and error by depth](report.png)
"""
