"""Accuracy against parameters."""

from typing import List

import matplotlib.pyplot as plt

from .models import Point


def draw_zoo(
    methods: List[Point], others: List[Point], ours: List[Point], path: str
) -> None:
    """Draw top-1 over parameters.

    Args:
        methods: The models that are built here, as their papers report them.
        others: Other models, as their papers report them.
        ours: Models that were measured with this code.
        path: PNG file.
    """
    figure, axes = plt.subplots(figsize=(9, 6), layout='constrained')
    for points, style in (
        (others, dict(c='lightgrey', label='others, papers')),
        (methods, dict(c='tab:blue', label='built here, papers')),
        (ours, dict(c='tab:red', marker='*', s=120, label='measured here')),
    ):
        if points:
            _, x, y = zip(*points)
            axes.scatter(x, y, **style)
    above = []
    for name, x, y in methods + ours:
        is_crowded = any(
            abs(x - a) < a / 9 and abs(y - b) < 0.5 for a, b in above
        )
        above.append((x, y))
        axes.annotate(
            name,
            (x, y),
            xytext=(5, -11 if is_crowded else 4),
            textcoords='offset points',
            fontsize=8,
        )
    axes.set_xscale('log')
    ticks = [5, 10, 20, 50, 100]
    axes.set_xlim(4.5, 130)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xlabel('parameters, millions')
    axes.set_ylabel('ImageNet-1K top-1, %')
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right')
    figure.savefig(path, dpi=110)
    plt.close(figure)
