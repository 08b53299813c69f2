"""The results of a study as a table and a picture."""

import statistics
from pathlib import Path
from string import Template
from typing import Dict, List

import matplotlib.pyplot as plt

from halvit_mm.apis.table import Table

from .plan import ORIGINAL, ROOT, Study
from .rule import judge


def _groups(results: List[Dict], *keys: str) -> Dict[tuple, List[Dict]]:
    """Group results that have the same values, in order of occurrence."""
    groups: Dict[tuple, List[Dict]] = {}
    for result in results:
        groups.setdefault(tuple(result[k] for k in keys), []).append(result)
    return groups


def _over_seeds(values: List[float], decimals: int) -> str:
    """Write a mean, and the standard deviation of more than one value."""
    mean = f'{statistics.mean(values):.{decimals}f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {statistics.stdev(values):.{decimals}f}'


def _mean(results: List[Dict], key: str) -> float:
    return statistics.mean(result[key] for result in results)


def _original(results: List[Dict]) -> str:
    scores = [r['score'] for r in results if r['variant'] == ORIGINAL]
    return f'{scores[0]:.2f}' if scores else '-'


def _training_row(group: List[Dict], decimals: int) -> Dict[str, str]:
    def scores(key, part=lambda result: result):
        return _over_seeds([part(r)[key] for r in group], decimals)

    return {
        'variant': group[0]['variant'],
        'parameters': f'{group[0]["stored"]:,}',
        'effective': f'{group[0]["effective"]:,}',
        'seeds': str(len(group)),
        'final': scores('final'),
        'best': scores('best'),
        'best - final': scores('difference'),
        **({'test': scores('test')} if 'test' in group[0] else {}),
        **{k: scores(k, lambda r: r['also']) for k in group[0]['also']},
        'min. a run': f'{_mean(group, "seconds") / 60:.1f}',
    }


def study_table(study: Study, results: List[Dict]) -> Table:
    """Make a table of means and standard deviations over seeds.

    Args:
        study: What was run.
        results: Of :func:`.runner.run_study`.

    Returns:
        For trainings a row for each variant, with sizes and scores; for
        compressions also a row for each variant, and a column for each budget
        with the score and, in brackets, the summed error of all units.
    """
    if study.checkpoint is None:
        # scores in per cent, or as shares of 1
        decimals = 2 if any(r['best'] > 1 for r in results) else 3
        groups = _groups(results, 'variant').values()
        rows = [_training_row(group, decimals) for group in groups]
        return Table(rows, f'{study.name}: {study.metric}')
    compressed = [r for r in results if r['variant'] != ORIGINAL]
    rows_of: Dict[str, Dict[str, str]] = {}
    for (variant, budget), group in _groups(
        compressed, 'variant', 'budget'
    ).items():
        score = _over_seeds([r['score'] for r in group], 2)
        row = rows_of.setdefault(variant, {'variant': variant})
        row[f'{budget:.0%}'] = f'{score} ({_mean(group, "after"):.3f})'
    budgets = sorted({r['budget'] for r in compressed})
    return Table(
        list(rows_of.values()),
        f'{study.metric}, the original {_original(results)} '
        '(in brackets: error of the units, summed)',
        ['variant', *(f'{budget:.0%}' for budget in budgets)],
    )


def write_study(study: Study, results: List[Dict], out: Path) -> None:
    """Write ``table.md`` and ``scores.png``.

    Args:
        study: What was run.
        results: Of :func:`.runner.run_study`; nothing is written if there
            are none.
        out: Folder.
    """
    if not results:
        return
    kind = 'training' if study.checkpoint is None else 'compression'
    template = ROOT / 'docs' / 'templates' / f'{kind}_study.md'
    text = Template(template.read_text()).substitute(
        metric=study.metric,
        path=study.path,
        table=study_table(study, results),
        devices=', '.join(sorted({r['device'] for r in results})),
        epochs=', '.join(sorted({str(r.get('epochs')) for r in results})),
        original=_original(results),
    )
    if study.rule:
        answer = judge(study, results)
        text += f'\nBy the rule in that file, of test accuracy:\n\n{answer}'
    (out / 'table.md').write_text(text)
    draw_study(study, results, out / 'scores.png')


def _style(i: int) -> Dict:
    """A marker and a colour for a variant; no two are alike."""
    return dict(marker='os^vD<>Ph'[i % 9], color=plt.get_cmap('tab20')(i % 20))


def draw_study(study: Study, results: List[Dict], path: Path) -> None:
    """Draw the scores.

    Args:
        study: What was run.
        results: Of :func:`.runner.run_study`.
        path: PNG file. For trainings it shows the final score of each run
            over the stored parameters; for compressions the mean score and
            the mean error over the budget.
    """
    if study.checkpoint is None:
        figure, axes = plt.subplots(figsize=(9, 5), layout='constrained')
        for i, group in enumerate(_groups(results, 'variant').values()):
            x = [r['stored'] / 1e3 for r in group]
            y = [r['final'] for r in group]
            label = group[0]['variant']
            axes.plot(x, y, ls='', alpha=0.8, label=label, **_style(i))
        axes.set_xlabel('stored parameters, thousands')
        axes.set_ylabel(f'{study.metric} after training')
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    else:
        figure = _draw_budgets(study.metric, results)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_budgets(metric: str, results: List[Dict]):
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout='constrained')
    compressed = [r for r in results if r['variant'] != ORIGINAL]
    for i, ((variant,), group) in enumerate(
        _groups(compressed, 'variant').items()
    ):
        by_budget = dict(sorted(_groups(group, 'budget').items()))
        x = [100 * budget for (budget,) in by_budget]
        for axis, key in zip(axes, ('score', 'after')):
            y = [_mean(found, key) for found in by_budget.values()]
            axis.plot(x, y, label=variant, **_style(i))
    for result in results:
        if result['variant'] == ORIGINAL:
            axes[0].axhline(result['score'], c='k', ls=':', label=ORIGINAL)
    axes[0].set_ylabel(metric)
    axes[1].set_ylabel('error of the units, summed')
    axes[1].set_yscale('log')
    for axis in axes:
        axis.set_xlabel('budget, % of the parameters')
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return figure
