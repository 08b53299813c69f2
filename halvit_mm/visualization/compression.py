"""Density and error of a compressed model by depth."""

from typing import Sequence

import matplotlib.pyplot as plt


def draw_compression(
    units: Sequence[str],
    densities: Sequence[float],
    before: Sequence[float],
    after: Sequence[float],
    path: str,
) -> None:
    """Draw density by depth as FiPS's Fig. 6, and the errors beside it.

    Args:
        units: Names of the units, in the order of the model.
        densities: Share of each unit's factors, or of its hidden units, that
            is kept, 0 to 1.
        before: Relative error of each unit's output before calibration.
        after: The same after calibration.
        path: PNG file.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    numbers = range(1, len(units) + 1)
    axes[0].bar(numbers, densities)
    axes[0].set_ylabel('share that is kept')
    axes[1].plot(numbers, before, 'o--', label='not calibrated')
    axes[1].plot(numbers, after, 'o-', label='calibrated')
    axes[1].set_yscale('log')
    axes[1].set_ylabel('error of the output, relative')
    axes[1].legend()
    for axis in axes:
        axis.set_xlabel('unit, by depth')
        axis.set_xticks(numbers)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
