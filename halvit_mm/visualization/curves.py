"""Loss and score curves from mmengine's ``scalars.json``."""

import json
from pathlib import Path
from typing import Dict, List, Tuple

from matplotlib.figure import Figure

#: Scores worth a curve; whatever of them is in the file is drawn.
_SCORES = {
    'coco/bbox_mAP': 'box AP',
    'coco/segm_mAP': 'mask AP',
    'accuracy/top1': 'top-1 accuracy, %',
}

Series = List[Tuple[float, float]]


def read_scalars(work_dir: str) -> Dict[str, Series]:
    """Read what mmengine logged, as pairs of step and value for each name.

    A run that is resumed replaces what was logged from its first step on.

    Args:
        work_dir: Of a training; ``<time>/vis_data/scalars.json`` in it has
            one JSON a line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is nothing to read.
    """
    paths = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not paths:
        raise FileNotFoundError(f'{work_dir} has no training log')
    series: Dict[str, Series] = {}
    for path in paths:
        for name, points in _read(path).items():
            first = points[0][0]
            before = [p for p in series.get(name, ()) if p[0] < first]
            series[name] = before + points
    if not series:
        raise ValueError(f'{paths[-1]} holds no scalars')
    return series


def _read(path: Path) -> Dict[str, Series]:
    series: Dict[str, Series] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        for name, value in record.items():
            if isinstance(value, (int, float)) and 'step' in record:
                series.setdefault(name, []).append((record['step'], value))
    return series


def draw_curves(work_dir: str, out: str) -> None:
    """Draw losses and scores of :func:`read_scalars` to a PNG."""
    series = read_scalars(work_dir)
    losses = sorted(name for name in series if name.startswith('loss'))
    scores = [name for name in _SCORES if name in series]
    figure = Figure(figsize=(10, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    for name in losses:
        left.plot(
            *zip(*series[name]), label=name, lw=2 if name == 'loss' else 1
        )
    for name in scores:
        right.plot(*zip(*series[name]), marker='o', label=_SCORES[name])
    left.set(xlabel='step', title='training loss')
    right.set(xlabel='epoch', title='validation')
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes, names in ((left, losses), (right, scores)):
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        if names:
            axes.legend(fontsize=8)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
