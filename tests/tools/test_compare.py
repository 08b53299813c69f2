"""A study of two variants on a handful of images, interrupted and resumed."""

import json

import cv2
import numpy as np
import pytest

from .conftest import tool

STUDY = """
config: configs/studies/vit_cifar10.py
metric: accuracy/top1
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
    first = tool('analysis_tools/compare', study, '--out', out)
    assert '[1/2] untied, seed 0' in first.stdout
    results = json.loads((out / 'results.json').read_text())
    assert [r['variant'] for r in results] == ['untied', 'signed']
    for result in results:
        assert len(result['scores']) == 2
        assert result['best'] - result['final'] == result['difference'] >= 0
    untied, signed = (r['stored'] for r in results)
    assert signed < untied
    assert results[1]['effective'] == untied
    picture = cv2.imread(str(out / 'scores.png'))
    assert picture is not None and picture.std() > 5

    # One result is lost: that run goes on from its checkpoint, which is the
    # last one, so that nothing is trained again; the other is not touched.
    (path,) = (out / 'signed').glob('*/result.json')
    path.unlink()
    second = tool('analysis_tools/compare', study, '--out', out)
    assert '[2/2] signed, seed 0' in second.stdout
    assert '[1/2]' not in second.stdout
    again = json.loads((out / 'results.json').read_text())[1]
    assert again['scores'] == results[1]['scores']
