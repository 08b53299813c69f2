"""What a study recommends, by a rule that stands in its file.

Variants are compared within seeds: a score is modelled as variant + seed +
noise, the noise pooled over all variants of a stage, and differences have a
95 % interval by Student's t.
"""

from typing import Dict, List, NamedTuple, Sequence

import numpy as np
from scipy.stats import t as student

from halvit_mm.apis.table import Table


class Difference(NamedTuple):
    """Of two variants' scores.

    Attributes:
        mean: The difference.
        half: Half the width of its 95 % interval, infinite without noise to
            judge by.
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
        half = self.factor * (contrast @ self.inverse @ contrast) ** 0.5
        return Difference(float(contrast @ self.effects), float(half))


def meets(difference: Difference, margin: float) -> str:
    """Say whether a difference is at least a margin: yes, no or open."""
    if difference.mean - difference.half >= margin:
        return 'yes'
    return 'no' if difference.mean + difference.half < margin else 'open'


def judge(
    results: Sequence[Dict], rule: Dict, controls: Dict[str, List[str]]
) -> str:
    """Apply the rule to one stage.

    Args:
        results: Of the stage.
        rule: ``at_least`` maps names of ``controls`` to margins in points.
            ``candidate`` is recommended if it meets them; ``simpler`` maps
            the variant that is preferred to the lead which the candidate
            must have over it; ``rival`` is recommended if it is ahead of the
            candidate.
        controls: Name -> variants, of which the best one on held-out images
            counts.

    Returns:
        A table of all variants and one sentence, as Markdown; '' if a control
        has no result.
    """
    results = [r for r in results if 'test' in r]
    held_out: Dict[str, List[float]] = {}
    for r in results:
        held_out.setdefault(r['variant'], []).append(r['final'])
    best = {}
    for name, group in controls.items():
        found = [x for x in group if x in held_out]
        if not found:
            return ''
        best[name] = max(found, key=lambda x: np.mean(held_out[x]))
    comparison = Comparison(results)
    rows, answers = [], {}
    for variant in comparison.variants:
        row = {'variant': variant, 'seeds': str(len(held_out[variant]))}
        answer = []
        for name, margin in rule['at_least'].items():
            found = comparison.difference(variant, best[name])
            answer.append(meets(found, margin))
            row[f'against {best[name]}'] = str(found)
        answers[variant] = next(
            (x for x in ('no', 'open') if x in answer), 'yes'
        )
        row['meets the rule'] = answers[variant]
        rows.append(row)
    table = str(Table(rows, 'test'))
    return f'{table}\n\n{_recommend(comparison, rule, answers)}\n'


def _recommend(comparison: Comparison, rule: Dict, answers: Dict) -> str:
    candidate, rival = rule['candidate'], rule['rival']
    has = comparison.variants.__contains__
    if has(candidate) and has(rival):
        lead = comparison.difference(rival, candidate)
        if meets(lead, 0) == 'yes':
            return f'{rival} is ahead of {candidate} ({lead}): recommended.'
    if answers.get(candidate) == 'yes':
        for simple, margin in rule['simpler'].items():
            if not has(simple):
                continue
            lead = comparison.difference(candidate, simple)
            if lead.mean <= margin:
                return (
                    f'{candidate} meets the rule, but is no more than '
                    f'{margin} ahead of {simple} ({lead}), which stays.'
                )
        return f'{candidate} meets the rule: recommended.'
    others = [x for x, answer in answers.items() if answer == 'yes']
    found = ', '.join(others) or 'nothing'
    return f'{candidate} does not meet the rule; what does: {found}.'
