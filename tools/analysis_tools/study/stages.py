"""Studies in stages: what a later one runs is chosen by an earlier one.

A file with ``stages`` is a study for each of them, in a folder of its own.
Choices are made by the score on held-out images, ``final``; never by ``test``.
"""

import json
import statistics
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import yaml

from .plan import ROOT, Study

_OWN = {'stages', 'controls', 'rule'}
_RULE = {'decides', 'candidate', 'at_least', 'simpler', 'rival'}
_KEYS = {'config', 'seeds', 'options', 'variants', 'of', 'best'}


def stages(
    path: str,
    options: Optional[Dict] = None,
    only: Optional[str] = None,
    out: Optional[Path] = None,
) -> Iterator[Study]:
    """Plan the stages of a study file, each when those before it are done.

    ``stages`` maps names to ``seeds``, ``options`` and ``variants``, by
    default all. One with ``of``, an earlier stage, runs its ``variants``, the
    best variant of each of ``controls``, and the ``best`` others.

    Args:
        path: A YAML file; without ``stages`` it is one study.
        options: As for :meth:`.Study.load`.
        only: Name of the only stage that is planned.
        out: Folder of the results of all stages.

    Yields:
        The study of each stage.

    Raises:
        ValueError: As :meth:`.Study.load`, for unknown names, and if a stage
            that is chosen from is not complete.
    """
    content = yaml.safe_load(Path(path).read_text())
    plans = content.get('stages')
    if plans is None:
        if only:
            raise ValueError(f'{path} has no stages, and no {only!r}')
        yield Study.load(path, options)
        return
    if only and only not in plans:
        raise ValueError(f'no stage {only!r}: choose of {list(plans)}')
    _check(path, content)
    out = out or ROOT / 'docs' / 'studies' / Path(path).stem
    for name in plans:
        if only in (None, name):
            yield _plan(path, content, name, options, out)


def _check(path: str, content: Dict) -> None:
    """Raise a ValueError for unknown and missing names, with the choices."""
    variants, earlier = list(content['variants']), []

    def check(where, names, known):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f'{path}: {where}: unknown {unknown}, choose of {list(known)}'
            )

    for name, group in content.get('controls', {}).items():
        check(f'controls: {name}', group, variants)
    for name, plan in content['stages'].items():
        check(name, plan, sorted(_KEYS))
        check(name, plan.get('variants', ()), variants)
        if 'of' in plan:
            check(f'{name}: of', [plan['of']], earlier)
            if 'best' not in plan or 'controls' not in content:
                raise ValueError(
                    f'{path}: {name}: a stage with `of` has `best`, how many '
                    'others go on, and the file has `controls`'
                )
        earlier.append(name)
    rule = content.get('rule')
    if rule is None:
        return
    check('rule', rule, _RULE)
    if missing := _RULE - rule.keys():
        raise ValueError(f'{path}: rule: missing {sorted(missing)}')
    check('rule: decides', [rule['decides']], earlier)
    check('rule: at_least', rule['at_least'], content.get('controls', {}))
    named = [rule['candidate'], rule['rival'], *rule['simpler']]
    check('rule', named, variants)


def _plan(path, content, name, options, out) -> Study:
    plan = content['stages'][name]
    names = list(plan.get('variants', content['variants']))
    if 'of' in plan:
        earlier = _plan(path, content, plan['of'], options, out)
        scores = _held_out(earlier, out / plan['of'] / 'results.json')
        controls = content['controls']
        names += [max(group, key=scores.get) for group in controls.values()]
        known = {x for group in controls.values() for x in group} | set(names)
        others = [x for x in scores if x not in known]
        others.sort(key=scores.get, reverse=True)
        names += others[: plan['best']]
    variants = content['variants']
    shared = {**content.get('options', {}), **plan.get('options', {})}
    own = dict(
        {key: value for key, value in content.items() if key not in _OWN},
        variants={x: variants[x] for x in variants if x in names},
        options=shared,
        config=plan.get('config', content['config']),
        seeds=plan.get('seeds', content.get('seeds', [0])),
    )
    study = Study.plan(path, own, options, name)
    rule = {k: content[k] for k in ('rule', 'controls') if k in content}
    return study._replace(rule=rule or None)


def _held_out(study: Study, path: Path) -> Dict[str, float]:
    """Read the mean score of each variant of a stage."""
    results = json.loads(path.read_text()) if path.is_file() else []
    found = {result['key']: result['final'] for result in results}
    missing = [run.title for run in study.runs if run.key not in found]
    if missing:
        raise ValueError(
            f'stage {study.stage!r} is to be complete before another one is '
            f'chosen from it: {len(missing)} of {len(study.runs)} runs are '
            f'missing, the first is {missing[0]!r}'
        )
    scores: Dict[str, List[float]] = {}
    for run in study.runs:
        scores.setdefault(run.variant, []).append(found[run.key])
    return {name: statistics.mean(values) for name, values in scores.items()}
