"""Compressed models: density and error by depth, scores by budget."""

from typing import Dict, List, Sequence

import matplotlib.pyplot as plt

__all__ = ['draw_compression', 'draw_compression_study']


def draw_compression(
    units: Sequence[str],
    densities: Sequence[float],
    before: Sequence[float],
    after: Sequence[float],
    path: str,
) -> None:
    """Draw what FiPS's Fig. 6 shows, and the errors beside it.

    Args:
        units: Names, in the order of the model.
        densities: Share of the factors' entries that is kept, 0 to 1.
        before: Errors before calibration.
        after: Errors after it.
        path: PNG file.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    numbers = range(1, len(units) + 1)
    axes[0].bar(numbers, densities)
    axes[0].set_ylabel('density of the factors')
    axes[1].plot(numbers, before, 'o--', label='pruned SVD')
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


def draw_compression_study(
    metric: str, results: List[Dict], path: str
) -> None:
    """Draw scores and errors over the budget, means over seeds.

    Args:
        metric: Name of the score.
        results: Of
            :func:`halvit_mm.apis.compress.run_compression_study`; of the
            original at least.
        path: PNG file.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout='constrained')
    variants: Dict[str, Dict[float, List[Dict]]] = {}
    for result in results:
        if 'share' not in result:
            axes[0].axhline(
                result['score'], color='k', ls=':', label=result['variant']
            )
            continue
        of_variant = variants.setdefault(result['variant'], {})
        of_variant.setdefault(result['budget'], []).append(result)
    for i, (variant, by_budget) in enumerate(variants.items()):
        budgets = sorted(by_budget)
        for axis, key in zip(axes, ('score', 'after')):
            values = [
                sum(r[key] for r in by_budget[b]) / len(by_budget[b])
                for b in budgets
            ]
            percent = [100 * b for b in budgets]
            form = 'os^vD<>Ph'[i % 9] + '-'
            color = plt.get_cmap('tab20')(i % 20)
            axis.plot(percent, values, form, color=color, label=variant)
    axes[0].set_ylabel(metric)
    axes[1].set_ylabel('error of the units, summed')
    axes[1].set_yscale('log')
    for axis in axes:
        axis.set_xlabel('budget, % of the parameters')
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
