"""Scores of a study against what its models store."""

from typing import Dict, List

import matplotlib.pyplot as plt

__all__ = ['draw_study']


def draw_study(metric: str, results: List[Dict], path: str) -> None:
    """Draw final scores over stored parameters, a point per run.

    Args:
        metric: Name of the score.
        results: Of :func:`halvit_mm.apis.study.run_study`.
        path: PNG file.
    """
    variants = list(dict.fromkeys(r['variant'] for r in results))
    figure, axes = plt.subplots(figsize=(9, 5), layout='constrained')
    for i, variant in enumerate(variants):
        runs = [r for r in results if r['variant'] == variant]
        axes.plot(
            [r['stored'] / 1e3 for r in runs],
            [r['final'] for r in runs],
            'os^vD<>Ph'[i % 9],  # nine forms, ten colours: no two alike
            label=variant,
            alpha=0.8,
        )
    axes.set_xlabel('stored parameters, thousands')
    axes.set_ylabel(f'{metric} after training')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)
    plt.close(figure)
