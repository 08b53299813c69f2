"""What FFNs do to their input, at the start and after training."""

from typing import Dict, Sequence

import matplotlib.pyplot as plt
import numpy as np

__all__ = ['draw_ffn']

_MOMENTS = ('start', 'trained')


def draw_ffn(results: Dict[str, Dict[str, Sequence[dict]]], path: str) -> None:
    """Draw the share along the input and the Jacobians' eigenvalues.

    Args:
        results: Variant -> ``'start'`` and ``'trained'`` -> one dict a layer,
            with what :class:`halvit_mm.apis.ffn_spectrum.FFNStatistics` has.
        path: PNG file.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout='constrained')
    for i, (variant, moments) in enumerate(results.items()):
        for column, moment in enumerate(_MOMENTS):
            layers = moments[moment]
            style = dict(color=f'C{i}', label=variant)
            shares = [layer['share'] for layer in layers]
            numbers = range(1, len(layers) + 1)
            axes[0, column].plot(numbers, shares, marker='o', **style)
            axes[0, column].set_xticks(numbers)
            values = np.concatenate([x['eigenvalues'] for x in layers])
            low, high = np.percentile(values, [0.2, 99.8])
            axes[1, column].hist(
                values.clip(low, high), bins=80, histtype='step', **style
            )
    for column, title in enumerate(('at the start', 'after training')):
        axes[0, column].set_title(title)
        axes[0, column].set_xlabel('layer')
        axes[0, column].set_ylim(-0.02, 1)
        axes[1, column].set_xlabel('eigenvalues of dy/dx, real part')
        axes[1, column].axvline(0, color='grey', linewidth=0.8)
        axes[1, column].set_yscale('log')
    axes[0, 0].set_ylabel('share of the output along the input')
    axes[1, 0].set_ylabel('count, all layers')
    axes[0, 1].legend()
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
