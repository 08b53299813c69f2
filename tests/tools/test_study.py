"""Studies: what is run, what is not run again, what is written."""

import json
import threading
import time

import pytest
import yaml
from mmengine.config import Config
from study import runner
from study.plan import Study
from study.report import write_study
from study.runner import run_study

from ..commands import ROOT
from .conftest import assert_picture

TEXT = """
config: {folder}/base.py
metric: accuracy/top1
options: {{log_level: 1, load_from: 1}}
variants:
  one:
    seeds: [0, 1]
    options: {{load_from: 2}}
  two: {{}}
  three:
    config: {folder}/other.py
"""


@pytest.fixture
def path(tmp_path):
    for i, name in enumerate(('base', 'other')):
        (tmp_path / f'{name}.py').write_text(f'epochs = {i}\n')
    path = tmp_path / 'little.yaml'
    path.write_text(TEXT.format(folder=tmp_path))
    return path


def test_what_is_run(path):
    study = Study.load(path, {'experiment_name': 3})
    assert study.name == 'little'
    assert [(r.variant, r.seed) for r in study.runs] == [
        ('one', 0),
        ('two', 0),
        ('three', 0),
        ('one', 1),
    ]
    cfg = study.runs[0].cfg
    assert (cfg.log_level, cfg.load_from) == (1, 2)
    assert (cfg.experiment_name, cfg.epochs) == (3, 0)
    assert study.runs[2].cfg.epochs == 1
    assert len({run.key for run in study.runs}) == 4
    assert Study.load(path).runs[0].key != study.runs[0].key


def test_a_changed_config_is_run_again(path):
    before = [run.key for run in Study.load(path).runs]
    (path.parent / 'other.py').write_text('# a comment\nepochs = 4\n')
    after = [run.key for run in Study.load(path).runs]
    changed = [a != b for a, b in zip(before, after)]
    assert changed == [False, False, True, False]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('variants: {{}}\nmetric: a', r"missing \['config'\]"),
        (TEXT + '    epochs: 3\n', r"three.*unknown \['epochs'\]"),
        (TEXT + '  four: {{}}\n', "'two.*' and 'four.*' have the same sett"),
    ],
)
def test_messages(path, text, message):
    path.write_text(text.format(folder=path.parent))
    with pytest.raises(ValueError, match=message):
        Study.load(path)


def result_of(run, study=None, folder=None, jobs=1, **others):
    final = 50.0 + run.seed
    sizes = dict(stored=1000, effective=2000, seconds=60, epochs=3)
    scores = dict(final=final, best=final + 1, difference=1.0, also={})
    names = dict(variant=run.variant, seed=run.seed, key=run.key)
    return {**names, **sizes, **scores, 'device': 'a GPU', **others}


def test_what_is_done_is_not_run_again(path, tmp_path, monkeypatch):
    ran = []

    def fake(run, study, folder, jobs):
        if len(ran) == 2:
            raise RuntimeError('the machine stopped')
        ran.append((run.variant, run.seed))

    monkeypatch.setattr(runner, 'run_commands', fake)
    monkeypatch.setattr(runner, 'read_result', result_of)
    study = Study.load(path)
    out = tmp_path / 'out'
    out.mkdir()
    other = dict(variant='of other settings', key='other')
    kept = out / 'results.json'
    kept.write_text(json.dumps([other]))
    with pytest.raises(RuntimeError, match='stopped'):
        run_study(study, tmp_path, kept)
    with pytest.raises(ValueError, match=r"no variants \['six'\]"):
        run_study(study, tmp_path, kept, only=['six'])
    assert len(run_study(study, tmp_path, kept, only=['two'])) == 2
    path.write_text(path.read_text().replace('one:', 'renamed:'))
    study = Study.load(path)
    ran_before, ran[:] = list(ran), []
    written = []
    results = run_study(
        study, tmp_path, kept, after=lambda r: written.append(len(r))
    )
    assert ran_before == [('one', 0), ('two', 0)]
    assert ran == [('three', 0), ('renamed', 1)]
    assert written == [2, 3, 4]
    order = [(r['variant'], r['seed']) for r in results]
    assert order == [(r.variant, r.seed) for r in study.runs]
    write_study(study, results, out)
    table = (out / 'table.md').read_text()
    # mean and standard deviation of 50 and 51
    assert '| renamed | 1,000 | 2,000 | 2 | 50.50 ± 0.71 | 51.50 ' in table
    assert table.startswith('accuracy/top1 after 3 epochs on a GPU:')
    assert json.loads(kept.read_text())[4:] == [other]


def test_one_failure_ends_a_study_and_keeps_what_runs(
    path, tmp_path, monkeypatch
):
    ran, both_run = [], threading.Barrier(2, timeout=10)

    def fake(run, study, folder, jobs):
        assert jobs == 2
        ran.append(run.variant)
        both_run.wait()
        if run.variant == 'one':
            raise RuntimeError('no disk')
        time.sleep(1)  # the error is noticed while this one runs

    monkeypatch.setattr(runner, 'run_commands', fake)
    monkeypatch.setattr(runner, 'read_result', result_of)
    study, kept = Study.load(path), tmp_path / 'out' / 'results.json'
    with pytest.raises(RuntimeError, match='no disk'):
        run_study(study, tmp_path, kept, jobs=2)
    assert sorted(ran) == ['one', 'two']
    (result,) = json.loads(kept.read_text())
    assert result['variant'] == 'two'


def test_further_scores_have_columns_of_their_own(path, tmp_path):
    study = Study.load(path)
    scores = dict(final=0.5, best=0.625, difference=0.125, also=dict(AP=0.25))
    result = result_of(study.runs[0], seconds=90, **scores)
    write_study(study, [result], tmp_path)
    lines = (tmp_path / 'table.md').read_text().splitlines()
    assert '| best - final | AP | min. a run |' in lines[3]
    assert lines[5].endswith('| 1 | 0.500 | 0.625 | 0.125 | 0.250 | 1.5 |')


def test_commands_that_were_run_are_not_run_again(path, tmp_path, monkeypatch):
    """The second one fails once; the time of both attempts is kept."""
    study = Study.load(path)
    scripts = []
    for name in ('one', 'two'):
        script = tmp_path / f'{name}.py'
        script.write_text(
            'import os, pathlib, sys\n'
            f'log = pathlib.Path({str(tmp_path / "log")!r})\n'
            f'log.open("a").write({name!r})\n'
            'assert os.environ["OMP_NUM_THREADS"] == "1"\n'
            f'sys.exit({name!r} == "two" and log.read_text() == "onetwo")\n'
        )
        scripts.append([str(script)])
    monkeypatch.setattr(runner, 'commands', lambda *args: scripts)
    monkeypatch.setattr(runner.os, 'cpu_count', lambda: 3)
    folder = tmp_path / 'run'
    with pytest.raises(RuntimeError, match=r'two.py ended with 1; what it'):
        runner.run_commands(study.runs[0], study, folder, 2)
    done, seconds = json.loads((folder / 'state.json').read_text())
    assert done == 1
    runner.run_commands(study.runs[0], study, folder, 2)
    done, more_seconds = json.loads((folder / 'state.json').read_text())
    assert done == 2 and more_seconds > seconds > 0
    assert (tmp_path / 'log').read_text() == 'onetwotwo'


def test_what_is_run_is_what_was_loaded(path, tmp_path, monkeypatch):
    """A config that changes while a study runs does not mix two settings."""
    study = Study.load(path, {'custom_hooks': [dict(type='Other')]})
    (path.parent / 'base.py').write_text('epochs = 9\n')
    monkeypatch.setattr(runner, 'commands', lambda *args: [])
    monkeypatch.setattr(runner.subprocess, 'run', lambda *args: None)
    runner.run_commands(study.runs[3], study, tmp_path / 'run', 1)
    cfg = Config.fromfile(tmp_path / 'run' / 'settings.py')
    assert cfg.epochs == 0
    assert cfg.randomness.seed == study.runs[3].seed == 1
    assert cfg.custom_hooks[-1] == dict(
        type='halvit_mm.PeakToFinalHook', metric='accuracy/top1'
    )
    assert cfg.custom_hooks[0] == dict(type='Other')


@pytest.mark.parametrize(
    'name', ['cifar10', 'nuclei', 'fips_cifar10', 'fips_halvit_cifar10']
)
def test_the_committed_tables_are_up_to_date(name, tmp_path):
    folder = ROOT / 'docs' / 'studies' / name
    path = f'configs/studies/{name}.yaml'
    content = yaml.safe_load((ROOT / path).read_text())
    study = Study(
        path, content['metric'], [], content.get('checkpoint'), runs=[]
    )
    results = json.loads((folder / 'results.json').read_text())
    write_study(study, results, tmp_path)
    table = (tmp_path / 'table.md').read_text()
    assert table == (folder / 'table.md').read_text()
    assert_picture(tmp_path / 'scores.png')
