"""A study of compression on a handful of images."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from study import runner
from study.plan import Study
from study.report import write_study
from study.runner import run_study

from ..commands import ROOT
from .conftest import assert_picture, tool
from .test_compress import CONFIG, OPTIONS, setting  # noqa: F401


@pytest.fixture
def study(setting, tmp_path):  # noqa: F811
    checkpoint, _, folder = setting
    content = dict(
        config=str(CONFIG),
        checkpoint=str(checkpoint),
        made_by='tools/train.py',
        metric='accuracy/top1',
        budgets=[0.25, 0.5],
        more_seeds={0.5: [2]},
        options={
            **OPTIONS,
            'data_root': str(folder / 'data'),
            'fips.epochs': 1,
        },
        variants={
            'GMP': None,
            'dense': dict(
                options={'fips.method': 'dense'}, budgets=[0.5], seeds=[0]
            ),
            'pruned SVD': dict(
                options={'fips.method': 'static', 'fips.epochs': 0},
                budgets=[0.25],
                seeds=[0],
            ),
        },
    )
    path = tmp_path / 'little.yaml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_what_is_run(study):
    runs = Study.load(study).runs
    assert [run.title for run in runs] == [
        'original, budget 100%, seed 0',
        'GMP, budget 25%, seed 0',
        'GMP, budget 50%, seed 0',
        'dense, budget 50%, seed 0',
        'pruned SVD, budget 25%, seed 0',
        'GMP, budget 50%, seed 2',
    ]
    assert len({run.key for run in runs}) == 6
    other = Study.load(study, {'fips.lr': 0.1}).runs
    assert not {run.key for run in other} & {run.key for run in runs[1:]}


def test_another_checkpoint_is_run_again(study, tmp_path):
    before = Study.load(study)
    weights = tmp_path / 'other.pth'
    weights.write_bytes(b'other')
    text = study.read_text().replace(before.checkpoint, str(weights))
    study.write_text(text)
    after = Study.load(study)
    keys = {run.key for run in before.runs}
    assert not keys & {run.key for run in after.runs}
    weights.unlink()
    with pytest.raises(FileNotFoundError, match='make it:\ntools/train.py'):
        Study.load(study)


def test_the_same_twice_is_refused(study):
    content = yaml.safe_load(study.read_text())
    study.write_text(
        yaml.safe_dump({**content, 'variants': {'original': None}})
    )
    with pytest.raises(ValueError, match="'original' is run anyway"):
        Study.load(study)
    content['variants']['another'] = dict(seeds=[0], budgets=[0.25])
    study.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(ValueError, match="GMP, budget 25%.*'another, budget"):
        Study.load(study)


def forked(command, **kwargs):
    """What ``subprocess.run`` does with the command of a tool."""
    script = Path(command[1]).relative_to(ROOT / 'tools')
    return tool(script.with_suffix(''), *command[2:], check=False)


def test_a_study(study, tmp_path, monkeypatch):
    """By the commands of tools; the tool itself is that of test_compare.py."""
    monkeypatch.setattr(runner, 'subprocess', SimpleNamespace(run=forked))
    out, said = tmp_path / 'out', []
    content = Study.load(study)
    run_study(
        content,
        tmp_path / 'work',
        out / 'results.json',
        only=['original', 'dense'],
        log=said.append,
        after=partial(write_study, content, out=out),
    )
    titles = ['[1/6] original, budget 100%', '[4/6] dense, budget 50%']
    assert said == [f'{title}, seed 0' for title in titles]
    results = json.loads((out / 'results.json').read_text())
    assert [r['variant'] for r in results] == ['original', 'dense']
    assert results[1]['share'] <= 0.5 and results[1]['budget'] == 0.5
    assert 0 < results[1]['after'] < results[1]['before']
    table = (out / 'table.md').read_text()
    score = results[0]['score']
    assert table.startswith(
        f'accuracy/top1 by budget, the original {score:.2f}'
    )
    error = results[1]['after']
    assert f'| dense | {results[1]["score"]:.2f} ({error:.3f}) |' in table
    assert_picture(out / 'scores.png')

    # what is done is not run again
    said.clear()
    again = run_study(
        Study.load(study),
        tmp_path / 'work',
        out / 'results.json',
        only=['original', 'dense'],
        log=said.append,
    )
    assert again == results and not said
