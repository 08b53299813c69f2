"""A study of two variants on a handful of images, interrupted and resumed."""

import json

import pytest
import yaml
from study.plan import Study
from study.runner import run_study

from .conftest import TWO_CLASSES, assert_picture, draw_dark_and_light, tool

SIGNED = {
    'model.backbone.type': 'halvit_mm.HaLViT',
    'model.backbone.gain': 'signed',
}


@pytest.fixture
def study(tmp_path):
    draw_dark_and_light(tmp_path / 'data', 16)
    content = dict(
        config='configs/studies/vit_cifar10.py',
        metric='accuracy/top1',
        also=['accuracy/top1'],
        test=True,
        options={
            **TWO_CLASSES,
            'data_root': str(tmp_path / 'data'),
            'model.backbone.arch.num_layers': 2,
            'model.backbone.arch.feedforward_channels': 48,
            'train_cfg.max_epochs': 2,
        },
        variants=dict(untied={}, signed=dict(options=SIGNED)),
    )
    path = tmp_path / 'little.yaml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_study(study, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    runs = Study.load(study).runs
    sizes = dict(stored=9000, effective=9000, seconds=60, epochs=2)
    scores = dict(final=50.0, best=51.0, difference=1.0, scores=[51.0, 50.0])
    scores['device'] = 'a GPU'
    scores['also'] = {'accuracy/top1': 50.0}
    scores['test'] = 49.0
    known = dict(variant='untied', seed=0, key=runs[0].key, **sizes, **scores)
    (out / 'results.json').write_text(json.dumps([known]))
    folders = dict(out=out, work_dir=tmp_path / 'work')
    first = tool('analysis_tools/compare', study, **folders)
    assert '[2/2] signed, seed 0' in first.stdout
    assert '[1/2]' not in first.stdout  # done on another machine, perhaps
    results = json.loads((out / 'results.json').read_text())
    assert results[0] == known
    signed = results[1]
    assert len(signed['scores']) == 2
    assert signed['also'] == {'accuracy/top1': signed['final']}
    assert signed['test'] == signed['final']  # of the same images here
    assert signed['best'] - signed['final'] == signed['difference'] >= 0
    assert signed['stored'] < signed['effective']
    assert_picture(out / 'scores.png')

    spectrum = tool(
        'analysis_tools/ffn_spectrum', study, **folders, variants='signed'
    )
    assert 'signed, trained: share along the input 0.' in spectrum.stdout
    layers = json.loads((out / 'ffn.json').read_text())['signed']['trained']
    assert len(layers) == 2
    assert_picture(out / 'ffn.png')

    # A result is lost: the run goes on from its last checkpoint, so that
    # nothing is trained again.
    (out / 'results.json').write_text(json.dumps(results[:1]))
    again = run_study(
        Study.load(study), tmp_path / 'work', out / 'results.json'
    )[1]
    assert again['scores'] == signed['scores']
