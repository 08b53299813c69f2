"""A proof in Markdown, for its folder and for the page of benchmarks."""

from typing import Dict, Iterator, List

from table import Table

_VARIANT_COLUMNS = {
    'ms': '{ms:.3f}',
    'kernels': '{kernels}',
    'kernels ms': '{busy_ms:.3f}',
    'peak MB': '{peak_mb:,.0f}',
    'difference': '{difference:.1e}',
}


def steps_table(proof: Dict) -> Table:
    """Make a table of how each step ended."""
    rows = [
        {
            'step': step['name'],
            'what': step['what'],
            'status': step['status'],
            's': f'{step["seconds"]:.0f}',
            'why': step['reason'] or '-',
        }
        for step in proof['steps']
    ]
    return Table(rows)


def proof_markdown(proof: Dict) -> str:
    """Write everything that a proof found.

    Args:
        proof: What ``gpu_proof.py`` writes to ``proof.json``.

    Returns:
        Markdown without headings. Parts without data are left out; the table
        of steps says why.
    """
    data = {step['name']: step['data'] for step in proof['steps']}
    parts = [_machine(proof, data.get('versions') or {})]
    parts.append(str(steps_table(proof)))
    for name, section in _SECTIONS.items():
        if data.get(name):
            parts += section(data[name])
    return '\n\n'.join(parts)


def _machine(proof: Dict, versions: Dict) -> str:
    names = ('device', 'driver', 'torch', 'cuda', 'nvcc', 'python', 'commit')
    known = [f'{n} {versions[n]}' for n in names if versions.get(n)]
    text = f'{"; ".join(known) or "Versions: -"}.'
    note = '**A dry run: no figure counts.** ' if proof['dry_run'] else ''
    return note + text


def _place(cell: Dict) -> Dict[str, str]:
    return {
        'D': str(cell['width']),
        'tokens': f'{cell["batch"] * cell["tokens"]:,}',
    }


def _layers(data: Dict) -> Iterator[str]:
    rows: List[Dict] = []
    kernels: List[Dict] = []
    for cell in data.get('cells', ()):
        naive = cell['variants']['naive']['ms']
        for name, variant in cell['variants'].items():
            row = {**_place(cell), 'variant': name}
            row['time / naive'] = f'{variant["ms"] / naive:.3f}'
            for title, form in _VARIANT_COLUMNS.items():
                row[title] = form.format(**variant)
            rows.append(row)
        ours = cell['variants'].get('ours', {})
        kernels += [
            {**_place(cell), **_kernel(k)} for k in ours.get('ours', ())
        ]
    yield (
        'One layer, forward and backward, bf16: median time in turns, number '
        'of kernels and the time that they take, memory on top, largest '
        'relative difference of an output or a gradient to `naive`.'
        + (f' Left out: {data["left_out"]}.' if data['left_out'] else '')
    )
    yield str(Table(rows))
    if kernels:
        yield (
            'Our kernels in `ours`: bytes from shapes, rate against that of a '
            f'copy, {data["copy_gbytes"]:,.0f} GB/s (what is read and written '
            'counts). A `-` is a kernel that was not seen.'
        )
        yield str(Table(kernels))


def _kernel(kernel: Dict) -> Dict[str, str]:
    row = {'kernel': kernel['name'], 'launches': str(kernel['count'])}
    row['MB'] = f'{kernel["bytes"] / 1e6:,.1f}'
    if kernel['us']:
        row['us'] = f'{kernel["us"]:,.1f}'
        row['GB / s'] = f'{kernel["gbytes"]:,.0f}'
        row['of a copy %'] = f'{100 * kernel["of_copy"]:.0f}'
    return row


def _graphs(data: Dict) -> Iterator[str]:
    rows = [
        {
            **_place(cell),
            'variant': name,
            'eager ms': f'{cell[name]["eager"]:.3f}',
            'graph ms': f'{cell[name]["graph"]:.3f}',
            'launches %': f'{100 * cell[name]["launches"]:.0f}',
        }
        for cell in data['cells']
        for name in ('naive', 'ours')
        if name in cell
    ]
    yield 'The same step eagerly and as a CUDA graph; the rest is launches.'
    yield str(Table(rows))


def _streams(data: Dict) -> Iterator[str]:
    yield (
        f'Two graphs on two streams: {data["replays"]} replays with new '
        f'inputs, largest relative difference {data["difference"]:.1e}.'
    )


def _opcheck(data: Dict) -> Iterator[str]:
    results = [r for checks in data.values() for r in checks.values()]
    passed = sum(result == 'SUCCESS' for result in results)
    yield f'`opcheck`: {passed} of {len(results)} checks passed.'


def _tests(data: Dict) -> Iterator[str]:
    if 'tests' in data:
        counts = (f'{data[k]} {k}' for k in ('failures', 'errors', 'skipped'))
        yield f'Tests: {data["tests"]} run, {", ".join(counts)}.'


def _estimate(data: Dict) -> Iterator[str]:
    sums = ', '.join(f'{v["bytes"]} of `{k}`' for k, v in data.items())
    yield (
        'Bytes per token and channel that a layer moves around its products '
        f'and attention, forward and backward, counted from shapes: {sums}.'
    )
    yield str(
        Table(
            [
                {
                    'variant': name,
                    'pass': row['what'],
                    'reads': ' + '.join(map(str, row['reads'])),
                    'writes': ' + '.join(map(str, row['writes'])) or '-',
                    'times': str(row['count']),
                    'bytes': str(row['moved']),
                }
                for name, table in data.items()
                for row in table['rows']
            ]
        )
    )


def _model(data: Dict) -> Iterator[str]:
    if 'markdown' in data:
        yield f'`benchmark.py {data["command"]}`:'
        yield data['markdown']


_SECTIONS = {
    'tests': _tests,
    'opcheck': _opcheck,
    'streams': _streams,
    'layers': _layers,
    'graphs': _graphs,
    'backbone': _model,
    'single': _model,
    'detector': _model,
    'estimate': _estimate,
}
