"""Times of variants as bars."""

from pathlib import Path
from typing import Optional

from matplotlib.figure import Figure

from .result import BenchmarkResult

__all__ = ['draw_benchmark']


def draw_benchmark(result: BenchmarkResult, path: Path) -> None:
    """Draw a bar for each variant, its whiskers from quartile to quartile.

    Lines mark the median of the reference and the time that the matrix
    products alone would take. Nothing is drawn if nothing was measured.

    Args:
        result: What was measured.
        path: PNG file.
    """
    measured = [v for v in result.variants if v.quartiles]
    missing = [v for v in result.variants if not v.quartiles]
    if not measured:
        return
    names = [v.name for v in (*measured, *missing)]
    figure = Figure(
        figsize=(8, 1.6 + 0.42 * len(names)), layout='constrained', dpi=110
    )
    axes = figure.subplots()
    widest = max(v.quartiles[2] for v in measured)
    for y, variant in enumerate(measured):
        _draw_bar(axes, y, variant, result.reference, widest)
    for y in range(len(measured), len(names)):
        axes.text(0.01 * widest, y, 'not measured', va='center', fontsize=9)
    reference = result[result.reference].quartiles
    ideal = result.ideal_ms
    _draw_line(axes, ideal, 'ideal: products alone', 'tab:green', '-')
    if reference:
        _draw_line(axes, reference[1], result.reference, 'tab:grey', '--')
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14 * max(widest, ideal or 0))
    axes.set_xlabel('time of a step, ms (median and quartiles)')
    axes.grid(axis='x', alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    title = f'{result.case["name"]}\n{result.environment["device"]}'
    axes.set_title(title, fontsize=10, loc='left')
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc='outside lower right', ncols=2, fontsize=8)
    figure.savefig(path)


def _draw_bar(axes, y: int, variant, reference: str, widest: float) -> None:
    lower, median, upper = variant.quartiles
    axes.barh(
        y,
        median,
        height=0.62,
        xerr=[[median - lower], [upper - median]],
        color='tab:grey' if variant.name == reference else 'tab:blue',
        alpha=0.85,
        error_kw=dict(capsize=3, lw=1.2),
    )
    axes.text(
        upper + 0.015 * widest,
        y,
        f'{median:,.0f}' if median >= 100 else f'{median:.3g}',
        va='center',
        fontsize=9,
        bbox=dict(facecolor='white', edgecolor='none', alpha=0.8, pad=1),
        zorder=4,
    )


def _draw_line(axes, x: Optional[float], label: str, colour: str, style: str):
    if x is not None:
        axes.axvline(x, color=colour, ls=style, lw=1.2, label=label, zorder=3)
