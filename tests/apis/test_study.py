"""Studies: what is run, what is not run again, what is written."""

import json
import threading
import time

import pytest

from halvit_mm.apis.study import Study, run_study, write_study
from halvit_mm.apis.study import run as run_module

TEXT = """
config: {folder}/base.py
metric: accuracy/top1
options: {{a: 1, b: 1}}
variants:
  one:
    seeds: [0, 1]
    options: {{b: 2}}
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
    study = Study.load(path, {'c': 3})
    assert study.name == 'little'
    assert [(r.variant, r.seed) for r in study.runs] == [
        ('one', 0),
        ('two', 0),
        ('three', 0),
        ('one', 1),
    ]
    assert study.runs[0].options == {'a': 1, 'b': 2, 'c': 3}
    assert study.runs[2].config.endswith('other.py')
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
        (TEXT + '  four: {{}}\n', "'two' and 'four' are the same settings"),
    ],
)
def test_messages(path, text, message):
    path.write_text(text.format(folder=path.parent))
    with pytest.raises(ValueError, match=message):
        Study.load(path)


def test_what_is_done_is_not_run_again(path, tmp_path, monkeypatch):
    ran = []

    def fake(run, study, work_dir, jobs):
        if len(ran) == 2:
            raise RuntimeError('the machine stopped')
        ran.append((run.variant, run.seed))
        final = 50.0 + run.seed
        return dict(
            variant=run.variant,
            seed=run.seed,
            key=run.key,
            stored=1000,
            effective=2000,
            seconds=60,
            final=final,
            best=final + 1,
            difference=1.0,
            also={},
            epochs=3,
            device='a GPU',
        )

    monkeypatch.setattr(run_module, '_run', fake)
    study = Study.load(path)
    out = tmp_path / 'out'
    out.mkdir()
    other = dict(variant='of other settings', key='other')
    (out / 'results.json').write_text(json.dumps([other]))
    with pytest.raises(RuntimeError, match='stopped'):
        run_study(study, tmp_path, out, log=lambda line: None)
    with pytest.raises(ValueError, match=r"no variants \['six'\]"):
        run_study(study, tmp_path, out, only=['six'])
    assert len(run_study(study, tmp_path, out, only=['two'])) == 2
    path.write_text(path.read_text().replace('one:', 'renamed:'))
    study = Study.load(path)
    ran_before, ran[:] = list(ran), []
    written = []
    results = run_study(
        study,
        tmp_path,
        out,
        log=lambda line: None,
        after=lambda r: written.append(len(r)),
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
    assert json.loads((out / 'results.json').read_text())[4:] == [other]


def test_one_failure_ends_a_study_and_keeps_what_runs(
    path, tmp_path, monkeypatch
):
    ran, both_run = [], threading.Barrier(2, timeout=10)

    def fake(run, study, work_dir, jobs):
        assert jobs == 2
        ran.append(run.variant)
        both_run.wait()
        if run.variant == 'one':
            raise RuntimeError('no disk')
        time.sleep(1)  # the error is noticed while this one runs
        return dict(variant=run.variant, seed=run.seed, key=run.key)

    monkeypatch.setattr(run_module, '_run', fake)
    study, out = Study.load(path), tmp_path / 'out'
    with pytest.raises(RuntimeError, match='no disk'):
        run_study(study, tmp_path, out, jobs=2, log=lambda line: None)
    assert sorted(ran) == ['one', 'two']
    (kept,) = json.loads((out / 'results.json').read_text())
    assert kept['variant'] == 'two'


def test_further_scores_have_columns_of_their_own(path, tmp_path):
    result = dict(
        variant='one', seed=0, stored=10, effective=20, seconds=90, key=''
    )
    result.update(final=0.5, best=0.625, difference=0.125, also=dict(AP=0.25))
    result.update(epochs=1, device='a GPU')
    write_study(Study.load(path), [result], tmp_path)
    lines = (tmp_path / 'table.md').read_text().splitlines()
    assert '| best - final | AP | min. a run |' in lines[3]
    assert lines[5].endswith('| 1 | 0.500 | 0.625 | 0.125 | 0.250 | 1.5 |')


def test_settings_that_change_while_a_study_runs(path, tmp_path):
    study = Study.load(path)
    (path.parent / 'base.py').write_text('epochs = 9\n')
    with pytest.raises(RuntimeError, match='changed while the study ran'):
        run_study(study, tmp_path, tmp_path / 'out', log=lambda line: None)
