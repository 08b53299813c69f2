"""Times of variants as bars."""

from pathlib import Path

from matplotlib.figure import Figure

from .result import BenchmarkResult


def draw_benchmark(result: BenchmarkResult, path: Path) -> None:
    """Draw a bar for each variant, its whiskers from quartile to quartile.

    Lines mark the median of the reference and the time that the matrix
    products alone would take. Nothing is drawn if nothing was measured.

    Args:
        result: What was measured.
        path: PNG file.
    """
    variants = sorted(result.variants, key=lambda v: not v.quartiles)
    widest = max((v.quartiles[2] for v in variants if v.quartiles), default=0)
    if not widest:
        return
    figure = Figure(
        figsize=(8, 1.6 + 0.42 * len(variants)), layout='constrained', dpi=110
    )
    axes = figure.subplots()
    for y, variant in enumerate(variants):
        text, end = 'not measured', 0.0
        if variant.quartiles:
            lower, median, end = variant.quartiles
            errors = [[median - lower], [end - median]]
            is_reference = variant.name == result.reference
            color = 'tab:grey' if is_reference else 'tab:blue'
            axes.barh(y, median, 0.62, xerr=errors, color=color, capsize=3)
            text = f'{median:,.0f}' if median >= 100 else f'{median:.3g}'
        axes.text(end + 0.015 * widest, y, text, va='center', fontsize=9)
    ideal, reference = result.ideal_ms, result[result.reference].quartiles
    if ideal:
        label = 'ideal: products alone'
        axes.axvline(ideal, color='tab:green', lw=1.2, label=label)
    if reference:
        style = dict(color='tab:grey', ls='--', lw=1.2)
        axes.axvline(reference[1], label=result.reference, **style)
    axes.set_yticks(range(len(variants)), [v.name for v in variants])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14 * max(widest, ideal or 0))
    axes.set_xlabel('time of a step, ms (median and quartiles)')
    axes.grid(axis='x', alpha=0.3)
    axes.set_axisbelow(True)
    title = f'{result.case["name"]}\n{result.environment["device"]}'
    axes.set_title(title, fontsize=10, loc='left')
    figure.legend(loc='outside lower right', ncols=2, fontsize=8)
    figure.savefig(path)
