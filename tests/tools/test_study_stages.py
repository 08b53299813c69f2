"""Studies in stages, what they choose, and the rule that they end with."""

import json

import numpy as np
import pytest
import yaml
from study.plan import Study
from study.report import write_study
from study.rule import Comparison, Difference, judge, meets
from study.runner import commands
from study.stages import stages

from .conftest import ROOT

FILE = ROOT / 'configs' / 'studies' / 'cifar10_tying.yaml'
TEXT = """
config: {folder}/base.py
metric: accuracy/top1
test: true
variants:
  plain: {{}}
  plain, hot: {{options: {{load_from: 2}}}}
  a: {{options: {{load_from: 3}}}}
  b: {{options: {{load_from: 4}}}}
  c: {{options: {{load_from: 5}}}}
controls: {{plain: [plain, 'plain, hot']}}
stages:
  short: {{seeds: [0, 1]}}
  long:
    of: short
    best: 1
    variants: [a]
    seeds: [0]
    options: {{train_cfg.max_epochs: 8}}
rule:
  decides: short
  candidate: a
  at_least: {{plain: -1.0}}
  simpler: {{b: 0.5}}
  rival: c
"""
#: Held-out scores that choose ``plain, hot`` and ``c``.
HELD_OUT = {'plain': 50, 'plain, hot': 51, 'a': 48, 'b': 47, 'c': 49}


@pytest.fixture
def path(tmp_path):
    (tmp_path / 'base.py').write_text('train_cfg = dict(max_epochs=2)\n')
    path = tmp_path / 'staged.yaml'
    path.write_text(TEXT.format(folder=tmp_path))
    return path


def result_of(run, **scores):
    names = dict(variant=run.variant, seed=run.seed, key=run.key)
    return dict(**names, final=HELD_OUT[run.variant] + run.seed, **scores)


def keep(study, out, results):
    folder = out / study.stage
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'results.json').write_text(json.dumps(results))


def test_a_stage_is_chosen_by_held_out_scores(path, tmp_path):
    """The best control and the best other, beside what is always run."""
    plans = stages(path, out=tmp_path)
    short = next(plans)
    assert short.name == 'staged/short'
    assert short.out == ROOT / 'docs' / 'studies' / 'staged' / 'short'
    assert len(short.runs) == 10
    results = [result_of(run, test=0) for run in short.runs]
    keep(short, tmp_path, results)
    long = next(plans)
    assert [r.variant for r in long.runs] == ['plain, hot', 'a', 'c']
    assert {r.cfg.train_cfg.max_epochs for r in long.runs} == {8}
    assert next(plans, None) is None
    (alone,) = stages(path, only='long', out=tmp_path)
    assert [r.key for r in alone.runs] == [r.key for r in long.runs]
    keep(short, tmp_path, results[:-1])
    with pytest.raises(ValueError, match="1 of 10 runs.*'c, seed 1'"):
        next(stages(path, only='long', out=tmp_path))
    with pytest.raises(ValueError, match="no stage 'x'.*'short', 'long'"):
        next(stages(path, only='x'))


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('best:', 'top:', r"long: unknown \['top'\], choose of \['best'"),
        ('    best: 1\n', '', 'long: a stage with `of` has `best`'),
        ('of: short', 'of: x', r"long: of: unknown \['x'\], .*\['short'\]"),
        ('variants: [a]', 'variants: [d]', r"long: unknown \['d'\], .*'a'"),
        ("[plain, 'pl", "[pain, 'pl", r"controls: plain: unknown \['pain'\]"),
        ('controls:', 'options:', 'and the file has `controls`'),
        ('decides: short', 'decides: x', "decides: unknown .*'short', 'long'"),
        ('  decides: short\n', '', r"rule: missing \['decides'\]"),
        ('rival: c', 'rival: d', r"rule: unknown \['d'\]"),
    ],
)
def test_unknown_names_are_told(path, tmp_path, old, new, message):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        next(stages(path, out=tmp_path))


def test_the_test_set_is_read_by_the_trained_weights(path, tmp_path):
    study = next(stages(path))
    run = study.runs[0]
    train, test = commands(run, study, tmp_path)
    assert train[0] == 'train.py'
    assert test[:3] == ['test.py', train[1], tmp_path / 'epoch_2.pth']
    assert test[4] == tmp_path / 'test'
    assert len(commands(run, study._replace(tests=False), tmp_path)) == 1


def test_one_file_without_stages_is_one_study():
    path = str(ROOT / 'configs' / 'studies' / 'cifar10.yaml')
    (study,) = stages(path)
    expected = Study.load(path)
    assert [r.key for r in study.runs] == [r.key for r in expected.runs]
    assert study.name == 'cifar10' and study.rule is None
    with pytest.raises(ValueError, match="cifar10.yaml has no stages, .*'x'"):
        next(stages(path, only='x'))


def table(differences, seeds=3, noise=0.1):
    """Results whose seeds differ by far more than their noise."""
    generator = np.random.default_rng(0)
    return [
        dict(
            variant=variant,
            seed=seed,
            final=HELD_OUT[variant],
            test=60 + 5 * seed + d + noise * generator.standard_normal(),
        )
        for variant, d in differences.items()
        for seed in range(seeds)
    ]


def test_seeds_are_paired():
    """The interval is that of the textbook's block design."""
    results = table({'plain': 0, 'a': -0.5, 'b': -3})
    scores = np.array([r['test'] for r in results]).reshape(3, 3)
    residual = scores - scores.mean(1, keepdims=True) - scores.mean(0)
    residual += scores.mean()
    deviation = (residual**2).sum() / 4
    half = 2.776445 * (2 * deviation / 3) ** 0.5  # t of 4 degrees, 97.5 %
    found = Comparison(results).difference('a', 'plain')
    assert found.mean == pytest.approx(scores[1].mean() - scores[0].mean())
    assert found.half == pytest.approx(half, rel=1e-5)
    assert half < 0.5
    missing = Comparison(results[:-1]).difference('b', 'plain')
    assert missing.mean == pytest.approx(-3, abs=0.5)
    single = Comparison(results[::3])
    for pair in (('a', 'plain'), ('a', 'a')):
        assert np.isinf(single.difference(*pair).half)
        assert meets(single.difference(*pair), -9) == 'undecided'


@pytest.mark.filterwarnings('error')
def test_equal_scores_differ_by_nothing():
    equal = table({'plain': 0.1, 'a': 0.1, 'b': 0.1}, noise=0)
    found = Comparison(equal).difference('a', 'plain')
    assert found == (0, 0) and str(found) == '+0.00 ± 0.00'


@pytest.mark.parametrize(
    ('found', 'expected'),
    [
        ((-0.5, 0.4), 'meets'),
        ((-0.5, 0.6), 'undecided'),
        ((-2, 0.9), 'does not'),
    ],
)
def test_margins(found, expected):
    assert meets(Difference(*found), -1.0) == expected


def judged(path, scores, stage='short', **kwargs):
    """The answer on that stage, of which all runs of ``scores`` are done."""
    study = next(stages(path))._replace(stage=stage)
    runs = [r for r in study.runs if r.variant in scores]
    keys = {(r.variant, r.seed): r.key for r in runs}
    results = table(scores, seeds=2, **kwargs)
    for r in results:
        r['key'] = keys[r['variant'], r['seed']]
    return judge(study._replace(runs=runs), results)


PLAIN = {'plain': -0.2, 'plain, hot': 0}


@pytest.mark.parametrize(
    ('scores', 'answer'),
    [
        (dict(a=0.3, b=-4, c=-2), '\na meets the margins: recommended.'),
        (dict(a=-0.3, b=-0.5, c=-2), 'no more than 0.5 ahead of b'),
        (dict(a=-0.3, b=-4, c=0.9), 'and meets the margins: recommended.'),
        (dict(a=-9, b=0, c=-4), 'but it does not meet the margins; what d'),
        (dict(a=-9, b=-9, c=-0.9), 'but whether it meets the margins is un'),
        (dict(a=-3, b=0, c=-5), 'a does not meet the margins; what does: b.'),
        (dict(a=-3, b=-3, c=-5), 'the margins; what does: nothing.'),
        (dict(a=-1, b=-3, c=-5), 'whether a meets the margins is undecided;'),
        (dict(a=1, c=-4), 'no answer: b was not run in this stage.'),
    ],
)
def test_rule(path, scores, answer):
    text = judged(path, {**PLAIN, **scores})
    assert '| variant | seeds | against plain, hot | margins |' in text
    assert answer in text
    other = judged(path, {**PLAIN, **scores}, stage='long')
    assert '| variant | seeds | against plain, hot |\n' in other
    assert 'margins' not in other and 'no answer' not in other


def test_without_a_control_there_is_no_answer(path):
    scores = dict(a=1, b=2, c=0)
    assert 'no answer: plain was not run' in judged(path, scores)


@pytest.mark.filterwarnings('error')
def test_one_seed_decides_nothing(path):
    study = next(stages(path))
    runs = [run for run in study.runs if run.seed == 0]
    results = [result_of(run, test=HELD_OUT[run.variant]) for run in runs]
    text = judge(study._replace(runs=runs), results)
    assert 'whether a meets the margins is undecided' in text
    assert 'nan' not in text and '±' not in text
    assert judge(study, results) == 'No answer yet: 5 of 10 runs.\n'


def test_the_answer_stands_in_the_table(path, tmp_path):
    study = next(stages(path))
    sizes = dict(stored=9, effective=9, seconds=60, epochs=2, device='a CPU')
    scores = dict(best=51.0, difference=1.0, also={}, test=60.5)
    results = [result_of(r, **sizes, **scores) for r in study.runs]
    write_study(study, results, tmp_path)
    text = (tmp_path / 'table.md').read_text()
    assert '| best - final | test | min. a run |' in text
    assert 'By the rule in that file' in text


def test_the_tying_study_compares_what_stores_as_much():
    """All variants build, and tied ones store half."""
    study = next(stages(str(FILE)))
    variants = {run.variant: run.cfg for run in study.runs}
    assert len(variants) == 16 and len(study.runs) == 48
    content = yaml.safe_load(FILE.read_text())
    named = {content['rule']['candidate'], content['rule']['rival']}
    named |= set(content['rule']['simpler'])
    for plan in content['stages'].values():
        assert 'of' not in plan or set(plan['variants']) == named
    for group in content['controls'].values():
        named |= set(group)
    assert named <= set(variants)
    for cfg in variants.values():
        parts = [cfg[f'{x}_dataloader'].dataset for x in ('train', 'val')]
        assert [p.held_out for p in parts if 'held_out' in p] == [True]
        assert {p.hold_out for p in parts} == {10}
        test = cfg.test_dataloader.dataset
        assert test.data_prefix == 'test' and 'hold_out' not in test
