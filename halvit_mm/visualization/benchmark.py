"""Times of variants as bars."""

from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

from matplotlib.figure import Figure

__all__ = ['draw_benchmark']

Quartiles = Tuple[float, float, float]


def draw_benchmark(
    title: str,
    quartiles: Dict[str, Quartiles],
    out: str,
    reference: Optional[str] = None,
    ideal: Optional[float] = None,
    missing: Sequence[str] = (),
) -> None:
    """Draw a bar for each variant, its whiskers from quartile to quartile.

    Args:
        title: Above the bars.
        quartiles: Variant -> lower quartile, median and upper quartile of
            its time in milliseconds.
        out: PNG file.
        reference: Variant with a line through its median.
        ideal: Time in milliseconds that gets a line, too.
        missing: Variants that have no bar.
    """
    names = [*quartiles, *missing]
    figure = Figure(
        figsize=(8, 1.6 + 0.42 * len(names)), layout='constrained', dpi=110
    )
    axes = figure.subplots()
    widest = max(upper for _, _, upper in quartiles.values())
    for y, (name, (lower, median, upper)) in enumerate(quartiles.items()):
        axes.barh(
            y,
            median,
            height=0.62,
            xerr=[[median - lower], [upper - median]],
            color='tab:grey' if name == reference else 'tab:blue',
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
    for y, _ in enumerate(missing, start=len(quartiles)):
        axes.text(0.01 * widest, y, 'not measured', va='center', fontsize=9)
    _draw_line(axes, ideal, 'ideal: products alone', 'tab:green', '-')
    if reference in quartiles:
        median = quartiles[reference][1]
        _draw_line(axes, median, reference, 'tab:grey', '--')
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14 * max(widest, ideal or 0))
    axes.set_xlabel('time of a step, ms (median and quartiles)')
    axes.grid(axis='x', alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title(title, fontsize=10, loc='left')
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc='outside lower right', ncols=2, fontsize=8)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _draw_line(axes, x: Optional[float], label: str, colour: str, style: str):
    if x is not None:
        axes.axvline(x, color=colour, ls=style, lw=1.2, label=label, zorder=3)
