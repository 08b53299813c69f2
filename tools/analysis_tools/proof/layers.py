"""Steps that run one layer: its table, CUDA graphs, two streams.

Shapes: B batch, T tokens of an image, D width.
"""

from itertools import product
from typing import Dict, Iterator, List, Tuple

import torch
from timing import time_in_turns

from .kernels import kernel_bytes
from .machine import need_gpu, need_library
from .measure import (
    VARIANTS,
    LayerStep,
    copy_rate,
    difference,
    peak_bytes,
    profiled,
)
from .runner import CannotRunError, Setup

WIDTHS = (384, 768)
# B and T: training on ImageNet, detection in two images of 800 x 1344
# pixels, one image.
TOKENS = ((256, 197), (2, 4200), (1, 197))
_TINY = ((64,), ((2, 8),))
_KEPT = 12  # kernels of a variant, the longest ones
_CLOSE = 0.05  # of two results in bfloat16, by their norms
_REPLAYS = 20


def _cells(setup: Setup) -> Iterator[Tuple[int, int, int]]:
    """Yield D, B and T of each cell of the table."""
    widths, tokens = _TINY if setup.dry_run else (WIDTHS, TOKENS)
    for width, (batch, count) in product(widths, tokens):
        yield width, batch, count


def _in_a_row(tokens: int) -> int:
    """Choose the calls of a turn: a few milliseconds of a fast GPU."""
    return 2 if tokens > 20_000 else 10


def _our_kernels(rows: List[Dict], cell, gbytes: float) -> List[Dict]:
    """Set what our kernels moved against the time that they took."""
    width, batch, count = cell
    found = []
    for name, bytes_ in kernel_bytes(batch * count, width).items():
        mine = [
            row
            for row in rows
            if f'::{name}' in row['name'] and 'halvit' in row['name']
        ]
        us = sum(row['us'] for row in mine)
        launches = sum(row['count'] for row in mine)
        row = dict(name=name, bytes=bytes_, count=launches, us=us)
        if us:
            row.update(gbytes=bytes_ / us / 1e3)
            row.update(of_copy=bytes_ / us / 1e3 / gbytes)
        found.append(row)
    return found


def _measure(cell, names: List[str], gbytes: float, setup: Setup) -> Dict:
    """Fill one cell of the table."""
    width, batch, count = cell
    torch.compiler.reset()
    steps = {name: LayerStep(name, *cell, setup.device) for name in names}
    rounds = 3 if setup.dry_run else 15
    seconds = time_in_turns(
        steps, rounds, setup.device, _in_a_row(batch * count)
    )
    variants = {}
    for name, step in steps.items():
        rows = profiled(step, setup.device)
        variants[name] = dict(
            ms=1e3 * seconds[name],
            kernels=sum(row['count'] for row in rows),
            busy_ms=sum(row['us'] for row in rows) / 1e3,
            peak_mb=peak_bytes(step, setup.device) / 1e6,
            difference=difference(step, steps['naive']),
            longest=rows[:_KEPT],
        )
        if VARIANTS[name].is_ours:
            variants[name]['ours'] = _our_kernels(rows, cell, gbytes)
    return dict(width=width, batch=batch, tokens=count, variants=variants)


def layers(setup: Setup) -> Dict:
    """Time and profile forward and backward of one layer, four ways."""
    need_gpu(setup)
    names, reason = list(VARIANTS), ''
    try:
        need_library(setup)
    except CannotRunError as skip:
        reason = str(skip)
        names = [name for name in names if not VARIANTS[name].is_ours]
    data: Dict = dict(left_out=reason, copy_gbytes=copy_rate(setup.device))
    data['cells'] = []
    for cell in _cells(setup):
        print(cell, flush=True)
        data['cells'].append(_measure(cell, names, data['copy_gbytes'], setup))
        setup.save(data)
    _check(data['cells'])
    return data


def _check(cells: List[Dict]) -> None:
    """Raise an error where results differ or no kernels were seen."""
    for cell in cells:
        size = f'{cell["width"]} x {cell["batch"]} x {cell["tokens"]}'
        for name, variant in cell['variants'].items():
            if not variant['difference'] < _CLOSE:
                raise RuntimeError(
                    f'{name} differs from naive by '
                    f'{variant["difference"]:.3g} at {size}'
                )
            if not variant['kernels']:
                raise RuntimeError(
                    f'the profiler saw no kernel of {name} at {size}'
                )


def _capture(step: LayerStep, stream) -> torch.cuda.CUDAGraph:
    """Record a step on a stream, after a few runs there."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
        step.layer.zero_grad(set_to_none=True)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph


def graphs(setup: Setup) -> Dict:
    """Time a step eagerly and as a CUDA graph: the rest is launches."""
    need_library(setup)
    data: Dict = dict(cells=[])
    for cell in _cells(setup):
        row = dict(zip(('width', 'batch', 'tokens'), cell))
        for name in ('naive', 'ours'):
            eager = LayerStep(name, *cell, setup.device)
            step = LayerStep(name, *cell, setup.device)
            graph = _capture(step, torch.cuda.Stream())
            seconds = time_in_turns(
                dict(eager=eager, graph=graph.replay),
                rounds=15,
                device=setup.device,
                in_a_row=_in_a_row(cell[1] * cell[2]),
            )
            ms = {key: 1e3 * value for key, value in seconds.items()}
            launches = 1 - ms['graph'] / ms['eager']
            row[name] = dict(ms, launches=launches)
        data['cells'].append(row)
        setup.save(data)
    return data


def streams(setup: Setup) -> Dict:
    """Replay two graphs on two streams at once, with new inputs.

    A kernel on the wrong stream, or one that reads what another graph has
    written, gives other results than the eager step.
    """
    need_library(setup)
    cell, device = (768, 4, 197), setup.device
    both = [LayerStep('ours', *cell, device) for _ in range(2)]
    lanes = [torch.cuda.Stream() for _ in both]
    recorded = [_capture(step, lane) for step, lane in zip(both, lanes)]
    expected = LayerStep('ours', *cell, device)
    worst = 0.0
    for seed in range(_REPLAYS):
        torch.manual_seed(seed)
        inputs = [torch.randn_like(step.x) for step in both]
        for step, lane, graph, x in zip(both, lanes, recorded, inputs):
            lane.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(lane):
                step.x.data.copy_(x)
                graph.replay()
        torch.cuda.synchronize()
        for step, x in zip(both, inputs):
            expected.x.data.copy_(x)
            expected()
            worst = max(worst, difference(step, expected))
        setup.save(dict(replays=seed + 1, difference=worst))
    if not worst < _CLOSE:
        raise RuntimeError(f'replays differ from eager steps by {worst:.3g}')
    return dict(replays=_REPLAYS, difference=worst)
