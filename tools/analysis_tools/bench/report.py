"""A benchmark on the screen, in Markdown, as a picture and in the docs."""

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

from proof.report import proof_markdown

from halvit_mm.apis.table import Table

from .picture import draw_benchmark
from .result import BenchmarkResult, VariantResult


class _Column(NamedTuple):
    title: str
    value: Callable[[BenchmarkResult, VariantResult], Optional[float]]
    form: str = ''  # by default four digits


def _quartile(index: int):
    return lambda r, v: v.quartiles and v.quartiles[index]


def _phase(name: str):
    return lambda result, variant: variant.phase(name)


def _saved(kind: str):
    return lambda r, v: v.saved and getattr(v.saved, kind) / 1e6


def _throughput(result, variant):
    if variant.quartiles:
        return result.case['batch'] / variant.quartiles[1] * 1e3
    return None


def _ideal_share(result, variant):
    if result.ideal_ms and variant.quartiles:
        return result.ideal_ms / variant.quartiles[1] * 100
    return None


_COLUMNS = (
    _Column('median ms', _quartile(1)),
    _Column('25 %', _quartile(0)),
    _Column('75 %', _quartile(2)),
    _Column('time / {0.reference}', BenchmarkResult.ratio, '{:.3f}'),
    _Column('images / s', _throughput),
    _Column('forward ms', _phase('forward')),
    _Column('backward ms', _phase('backward')),
    _Column('optimiser ms', _phase('optimiser')),
    _Column('of ideal %', _ideal_share, '{:.0f}'),
    _Column('peak MB', lambda r, v: v.peak_bytes and v.peak_bytes / 1e6),
    _Column('saved MB', _saved('activations')),
    _Column('saved B / elem.', BenchmarkResult.saved_per_channel, '{:.1f}'),
    _Column('weight copies MB', _saved('weights')),
    _Column('first step s', lambda r, v: v.first_seconds),
)


def _text(value: float, form: str) -> str:
    if form:
        return form.format(value)
    before = math.floor(math.log10(abs(value))) + 1 if value else 4
    return f'{value:,.{min(6, max(0, 4 - before))}f}'


def result_table(result: BenchmarkResult) -> Table:
    """Make a table with a row for each variant.

    A column without any value is left out.
    """
    rows = [{'variant': v.name} for v in result.variants]
    for column in _COLUMNS:
        title = column.title.format(result)
        for row, variant in zip(rows, result.variants):
            value = column.value(result, variant)
            if value is not None:
                row[title] = _text(value, column.form)
    titles = ['variant', *(c.title.format(result) for c in _COLUMNS)]
    columns = [t for t in titles if any(t in row for row in rows)]
    return Table(rows, result.case['name'], columns)


def _notes(result: BenchmarkResult) -> List[str]:
    """What stands under the table, a sentence or two each."""
    env = result.environment
    lines = [
        f'{env["device"]}; torch {env["torch"]}, CUDA {env["cuda"] or "-"}, '
        f'operators: {env["operators"]} ({env["operators_reason"]}).',
        f'Median and quartiles of {result.settings["rounds"]} rounds, '
        'forward and, in training, backward, without the optimiser; the '
        'ratio is the median over the pairs of a round. elem.: token, '
        'channel and layer.',
    ]
    if roofline := result.roofline:
        rates = ', '.join(f'{k}: {v:.3g}' for k, v in roofline.tflops.items())
        lines.append(
            f'Measured TFLOP/s ({roofline.dtype}) of {rates}; copy '
            f'{roofline.gbytes:.3g} GB/s.'
        )
    if result.ideal_ms:
        lines.append(
            f'Ideal: {result.flops / 1e9:,.4g} GFLOP of products and '
            f'attention at {result.roofline.best_tflops:.3g} TFLOP/s take '
            f'{result.ideal_ms:.3g} ms.'
        )
    return lines + [
        f'{v.name}: {v.reason}.' for v in result.variants if v.reason
    ]


def print_result(result: BenchmarkResult) -> None:
    """Print the table of a result and its notes."""
    result_table(result).print()
    print(*_notes(result), sep='\n')


def _markdown(result: BenchmarkResult) -> str:
    notes = '\n'.join(f'* {line}' for line in _notes(result))
    return f'{result_table(result)}\n\n{notes}'


def save_result(
    result: BenchmarkResult, out: Path, markdown: Optional[str] = None
) -> Path:
    """Write ``result.json`` and ``times.png``.

    Args:
        result: What was measured.
        out: Folder; the files go to a folder of the case in it.
        markdown: File to which the table is appended.

    Returns:
        The folder with the files.
    """
    folder = out / result.case['name']
    result.save(folder / 'result.json')
    draw_benchmark(result, folder / 'times.png')
    if markdown:
        with open(markdown, 'a') as file:
            command = f'`{" ".join(result.command)}`'
            title = f'### {result.case["name"]}'
            file.write(f'{title}\n\n{command}\n\n{_markdown(result)}\n\n')
    return folder


def write_page(docs: Path) -> Path:
    """Write the page of benchmarks from kept results.

    In ``templates/benchmarks.md`` a line ``{{ NAME: COMMAND }}`` stands for a
    command and its results. NAME is that of a case, or a pattern of several;
    the results are in the folder ``benchmarks``, as :func:`save_result`,
    ``model_info.py --json`` or ``gpu_proof.py`` write them.

    Args:
        docs: Folder of the documentation.

    Returns:
        The page. Where there is no result, it has a ``-``.
    """
    text = (docs / 'templates' / 'benchmarks.md').read_text()
    text = text.replace('](../', '](')  # the page is one folder above it
    section = partial(_section, docs / 'benchmarks')
    page = docs / 'benchmarks.md'
    page.write_text(re.sub(r'\{\{ (\S+): (.+) \}\}', section, text))
    return page


def _section(kept: Path, found: re.Match) -> str:
    name, command = found.groups()
    parts = [f'```\npython {command}\n```']
    for path in sorted(kept.glob(f'{name}/result.json')):
        picture = f'![times](benchmarks/{path.parent.name}/times.png)'
        parts.append(f'{_markdown(BenchmarkResult.load(path))}\n\n{picture}')
    for path in sorted(kept.glob(f'{name}/proof.json')):
        parts.append(proof_markdown(json.loads(path.read_text())))
    for path in sorted(kept.glob(f'{name}.json')):
        parts.append(_latencies(json.loads(path.read_text())))
    return '\n\n'.join(parts if len(parts) > 1 else [*parts, 'Measured: -'])


def _latencies(content: Dict) -> str:
    """The table of a file from ``model_info.py --json``."""
    seconds = content['seconds']
    slowest = max(seconds.values())
    rows = [
        {
            'model': f'[{Path(path).stem}](../{path})',
            'ms': f'{took * 1e3:,.0f}',
            'images / s': f'{content["batch"] / took:.2f}',
            'throughput / slowest': f'{slowest / took:.2f}',
        }
        for path, took in seconds.items()
    ]
    return f'{Table(rows)}\n\n* {content["device"]}.'
