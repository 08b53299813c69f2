"""A study of two variants on a handful of images, interrupted and resumed."""

import json

import cv2
import numpy as np
import pytest
from study.plan import Study
from study.runner import run_study

from .conftest import tool

STUDY = """
config: configs/studies/vit_cifar10.py
metric: accuracy/top1
also: [accuracy/top1]
options:
  model.backbone.arch.embed_dims: 24
  model.backbone.arch.num_layers: 2
  model.backbone.arch.feedforward_channels: 48
  model.head.in_channels: 24
  model.head.num_classes: 2
  data_preprocessor.num_classes: 2
  train_dataloader.dataset.data_root: {root}
  val_dataloader.dataset.data_root: {root}
  train_dataloader.batch_size: 8
  train_dataloader.num_workers: 0
  train_dataloader.persistent_workers: false
  val_dataloader.num_workers: 0
  val_dataloader.persistent_workers: false
  train_cfg.max_epochs: 2
variants:
  untied: {{}}
  signed:
    options:
      model.backbone.type: halvit_mm.HaLViT
      model.backbone.gain: signed
"""


@pytest.fixture
def study(tmp_path):
    generator = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label, name in enumerate(('dark', 'light')):
            folder = tmp_path / 'data' / split / name
            folder.mkdir(parents=True)
            for i in range(16):
                image = generator.integers(0, 100, (32, 32, 3)) + 150 * label
                cv2.imwrite(str(folder / f'{i}.png'), image)
    path = tmp_path / 'little.yaml'
    path.write_text(STUDY.format(root=tmp_path / 'data'))
    return path


def test_study(study, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    runs = Study.load(study).runs
    sizes = dict(stored=9000, effective=9000, seconds=60, epochs=2)
    scores = dict(final=50.0, best=51.0, difference=1.0, scores=[51.0, 50.0])
    scores['device'] = 'a GPU'
    scores['also'] = {'accuracy/top1': 50.0}
    known = dict(variant='untied', seed=0, key=runs[0].key, **sizes, **scores)
    (out / 'results.json').write_text(json.dumps([known]))
    folders = ('--out', out, '--work-dir', tmp_path / 'work')
    first = tool('analysis_tools/compare', study, *folders)
    assert '[2/2] signed, seed 0' in first.stdout
    assert '[1/2]' not in first.stdout  # done on another machine, perhaps
    results = json.loads((out / 'results.json').read_text())
    assert results[0] == known
    signed = results[1]
    assert len(signed['scores']) == 2
    assert signed['also'] == {'accuracy/top1': signed['final']}
    assert signed['best'] - signed['final'] == signed['difference'] >= 0
    assert signed['stored'] < signed['effective']
    picture = cv2.imread(str(out / 'scores.png'))
    assert picture is not None and picture.std() > 5

    spectrum = tool(
        'analysis_tools/ffn_spectrum', study, *folders, '--variants', 'signed'
    )
    assert 'signed, trained: share along the input 0.' in spectrum.stdout
    layers = json.loads((out / 'ffn.json').read_text())['signed']['trained']
    assert len(layers) == 2
    picture = cv2.imread(str(out / 'ffn.png'))
    assert picture is not None and picture.std() > 5

    # A result is lost: the run goes on from its last checkpoint, so that
    # nothing is trained again.
    (out / 'results.json').write_text(json.dumps(results[:1]))
    again = run_study(
        Study.load(study), tmp_path / 'work', out / 'results.json'
    )[1]
    assert again['scores'] == signed['scores']
