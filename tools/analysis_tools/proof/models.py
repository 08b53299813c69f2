"""Steps that time whole models, by ``benchmark.py`` in its own process."""

import json
import sys
from statistics import median
from typing import Dict, Sequence

from . import ROOT
from .machine import call, need_gpu, need_packages
from .runner import Setup

_TINY = ('--rounds', '1', '--min-seconds', '0')
_TINY += ('--device', 'cpu', '--batch', '1')


def _benchmark(setup: Setup, real: Sequence[str], tiny: Sequence[str]) -> Dict:
    """Run a benchmark.

    Args:
        setup: Of the step.
        real: Its arguments.
        tiny: The arguments that differ in a dry run; the last ones hold.

    Returns:
        Its table in Markdown, and the median milliseconds of each variant.

    Raises:
        RuntimeError: If a variant failed.
    """
    table = setup.folder / 'table.md'
    arguments = [*real, *((*tiny, *_TINY) if setup.dry_run else ())]
    status = call(
        *(sys.executable, str(ROOT / 'tools/analysis_tools/benchmark.py')),
        *(*arguments, '--dtype', 'bf16'),
        *('--out', str(setup.folder), '--markdown', str(table)),
    )
    data: Dict = dict(command=' '.join(arguments))
    for path in setup.folder.glob('*/result.json'):
        variants = json.loads(path.read_text())['variants']
        data['ms'] = {v['name']: _median(v) for v in variants if v['samples']}
        data['not measured'] = {
            v['name']: v['reason'] for v in variants if v['reason']
        }
        data['markdown'] = table.read_text().partition('`\n\n')[2].strip()
    setup.save(data)
    if status:
        raise RuntimeError(f'benchmark.py ended with exit status {status}')
    return data


def _median(variant: Dict) -> float:
    """Median milliseconds of a step, without the optimiser."""
    return median(
        sum(ms for phase, ms in sample.items() if phase != 'optimiser')
        for sample in variant['samples']
    )


def backbone(setup: Setup) -> Dict:
    """Time a training step of HaLViT-M and of mmpretrain's ViT-B."""
    _need_hosts(setup, 'mmengine', 'mmcv', 'mmpretrain')
    arguments = ('backbone', '--arch', 'medium', '--batch', '256')
    variants = ('--variants', 'untied', 'naive', 'ours', '--rounds', '7')
    return _benchmark(
        setup,
        (*arguments, '--mode', 'train', *variants),
        ('--arch', 'tiny', '--img-size', '32', '--variants', 'ours'),
    )


def single(setup: Setup) -> Dict:
    """Time HaLViT-M on one image: eager, packed, and as a CUDA graph."""
    _need_hosts(setup, 'mmengine', 'mmcv', 'mmpretrain')
    arguments = ('backbone', '--arch', 'medium', '--batch', '1')
    variants = ('--variants', 'untied', 'ours', 'prepared', 'graph')
    return _benchmark(
        setup,
        (*arguments, '--mode', 'infer', *variants),
        ('--arch', 'tiny', '--img-size', '32', '--variants', 'prepared'),
    )


def detector(setup: Setup) -> Dict:
    """Time a training step of Mask R-CNN on two images of 800 x 1344."""
    _need_hosts(setup, 'mmengine', 'mmcv', 'mmdet', 'mmpretrain')
    arguments = ('detector', 'configs/maskrcnn_halvit_m.py', '--batch', '2')
    variants = ('--variants', 'untied', 'naive', 'ours', '--rounds', '7')
    return _benchmark(
        setup,
        (*arguments, '--shape', '800', '1344', '--mode', 'train', *variants),
        ('--shape', '64', '64', '--variants', 'ours'),
    )


def _need_hosts(setup: Setup, *names: str) -> None:
    need_gpu(setup)
    need_packages(*names)
