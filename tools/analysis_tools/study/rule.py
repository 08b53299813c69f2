"""What a study recommends, by a rule that stands in its file.

Variants are compared within seeds: a score is modelled as variant + seed +
noise, the noise pooled over all variants of a stage, and differences have a
95 % interval by Student's t.
"""

from typing import Dict, List, NamedTuple, Sequence

import numpy as np
from scipy.stats import t as student

from halvit_mm.apis.table import Table

from .plan import Study


class Difference(NamedTuple):
    """Of two variants' scores.

    Attributes:
        mean: The difference.
        half: Half the width of its 95 % interval, infinite where one seed
            leaves no noise to judge by.
    """

    mean: float
    half: float

    def __str__(self) -> str:
        if np.isinf(self.half):
            return f'{self.mean:+.2f}'
        return f'{self.mean:+.2f} ± {self.half:.2f}'


class Comparison:
    """Scores of variants and seeds, in blocks of one seed.

    Args:
        results: Of :func:`.runner.run_study`; each with a ``test``.
    """

    def __init__(self, results: Sequence[Dict]) -> None:
        self.variants = list(dict.fromkeys(r['variant'] for r in results))
        seeds = list(dict.fromkeys(r['seed'] for r in results))
        n = len(self.variants)
        design = np.zeros((len(results), n + len(seeds) - 1))
        for row, result in zip(design, results):
            row[self.variants.index(result['variant'])] = 1
            if seed := seeds.index(result['seed']):
                row[n + seed - 1] = 1
        scores = np.array([result['test'] for result in results])
        self.inverse = np.linalg.pinv(design.T @ design)
        self.effects = self.inverse @ design.T @ scores
        freedom = len(results) - np.linalg.matrix_rank(design)
        self.factor = np.inf
        if freedom > 0:
            noise = scores - design @ self.effects
            deviation = (noise @ noise / freedom) ** 0.5
            self.factor = student.ppf(0.975, freedom) * deviation

    def difference(self, one: str, other: str) -> Difference:
        """Compare two variants, ``one - other``."""
        contrast = np.zeros(len(self.effects))
        contrast[self.variants.index(one)] += 1
        contrast[self.variants.index(other)] -= 1
        effect = contrast @ self.effects
        half = np.inf
        if np.isfinite(self.factor):  # rounding may go below zero
            variance = max(contrast @ self.inverse @ contrast, 0.0)
            half = self.factor * variance**0.5
        # Equal scores differ by nothing, not by what rounding leaves.
        mean, half = (round(float(x), 6) + 0.0 for x in (effect, half))
        return Difference(mean, half)


MEETS, FAILS, OPEN = 'meets', 'does not', 'undecided'


def meets(difference: Difference, margin: float) -> str:
    """Say whether a difference is at least a margin.

    Returns:
        ``'meets'``, ``'does not'``, or ``'undecided'`` if its interval
        contains the margin.
    """
    if difference.mean - difference.half >= margin:
        return MEETS
    return FAILS if difference.mean + difference.half < margin else OPEN


def judge(study: Study, results: Sequence[Dict]) -> str:
    """Compare the variants of a stage, and apply the rule where it decides.

    ``study.rule`` has ``controls``, name -> variants, of which the best one on
    held-out images counts, and ``rule``. There ``decides`` names the stage
    that decides, and ``at_least`` maps names of ``controls`` to margins in
    points. ``candidate`` is recommended if it meets them; ``simpler`` maps the
    variant that is preferred to the lead which the candidate must have over
    it; ``rival`` is recommended if it is ahead of the candidate and meets
    them.

    Args:
        study: The stage.
        results: Of :func:`.runner.run_study`.

    Returns:
        A table of all variants, and in the stage that decides a sentence, as
        Markdown; one line instead while runs are missing.
    """
    rule, controls = study.rule['rule'], study.rule['controls']
    keys = {run.key for run in study.runs}
    results = [r for r in results if 'test' in r and r['key'] in keys]
    if len(results) < len(keys):
        return f'No answer yet: {len(results)} of {len(keys)} runs.\n'
    held_out: Dict[str, List[float]] = {}
    for r in results:
        held_out.setdefault(r['variant'], []).append(r['final'])
    best, absent = {}, []
    for name in rule['at_least']:
        if found := [x for x in controls[name] if x in held_out]:
            best[name] = max(found, key=lambda x: np.mean(held_out[x]))
        else:
            absent.append(name)
    named = (rule['candidate'], rule['rival'], *rule['simpler'])
    absent += [name for name in named if name not in held_out]
    decides = study.stage == rule['decides']
    comparison = Comparison(results)
    rows, answers = [], {}
    for variant in comparison.variants:
        row = {'variant': variant, 'seeds': str(len(held_out[variant]))}
        answer = set()
        for name, other in best.items():
            found = comparison.difference(variant, other)
            answer.add(meets(found, rule['at_least'][name]))
            row[f'against {other}'] = '-' if variant == other else str(found)
        is_control = any(variant in group for group in controls.values())
        if not is_control:
            worst = (x for x in (FAILS, OPEN, MEETS) if x in answer)
            answers[variant] = next(worst, OPEN)
        if decides:
            row['margins'] = answers.get(variant, '-')
        rows.append(row)
    text = f'{Table(rows, "test")}\n'
    if decides and absent:
        names = ', '.join(absent)
        text += f'\nno answer: {names} was not run in this stage.\n'
    elif decides:
        text += f'\n{_recommend(comparison, rule, answers)}\n'
    return text


def _recommend(comparison: Comparison, rule: Dict, answers: Dict) -> str:
    candidate, rival = rule['candidate'], rule['rival']
    others = [x for x, answer in answers.items() if answer == MEETS]
    what_does = f'; what does: {", ".join(others) or "nothing"}.'
    lead = comparison.difference(rival, candidate)
    if lead.mean - lead.half > 0:
        ahead = f'{rival} is ahead of {candidate} ({lead})'
        if answers[rival] == MEETS:
            return f'{ahead} and meets the margins: recommended.'
        return f'{ahead}, but {_fault("it", answers[rival])}{what_does}'
    if answers[candidate] != MEETS:
        return f'{_fault(candidate, answers[candidate])}{what_does}'
    for simple, margin in rule['simpler'].items():
        lead = comparison.difference(candidate, simple)
        if lead.mean <= margin:
            return (
                f'{candidate} meets the margins, but is no more than '
                f'{margin} ahead of {simple} ({lead}), which stays.'
            )
    return f'{candidate} meets the margins: recommended.'


def _fault(name: str, answer: str) -> str:
    if answer == FAILS:
        return f'{name} does not meet the margins'
    return f'whether {name} meets the margins is undecided'
