"""Gradients of the uses of a tied matrix, apart."""

import json
import sys

import cv2
import gradient_ratios as tool
import numpy as np
import pytest
import torch
from gradient_ratios import gradient_ratios, mixed_batch, untied
from mmpretrain.structures import DataSample
from study.stages import stages
from torch.testing import assert_close

from halvit_mm.apis import load_config
from halvit_mm.apis.model_info import build_model
from halvit_mm.models.layers import TiedLinear
from tests.helpers import randomise

from .conftest import ROOT

TYINGS = {
    'untied': {},
    'paper': {'model.backbone.type': 'halvit_mm.HaLViT'},
    'version 2': {
        'model.backbone.type': 'halvit_mm.HaLViT',
        'model.backbone.gain': 'signed',
        'model.backbone.attn': 'like',
        'model.backbone.attention_scale': 3,
    },
}


def model_of(name):
    path = ROOT / 'configs' / 'studies' / 'vit_cifar10.py'
    torch.manual_seed(0)
    cfg = load_config(str(path), TYINGS[name], read_data=False)
    return randomise(build_model(cfg)).eval()


def batch():
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    return dict(inputs=images, data_samples=samples)


def loss_of(model, data):
    losses = model(**model.data_preprocessor(data), mode='loss')
    return sum(losses.values())


@pytest.mark.parametrize('name', TYINGS)
def test_the_gradients_of_all_uses_make_up_the_matrix_s(name):
    model, data = model_of(name), batch()
    loss = loss_of(model, data)
    loss.backward()
    attn = model.backbone.layers[0].attn
    own = [p.grad for n, p in attn.named_parameters() if p.ndim == 2]
    tied = [m for m in attn.modules() if isinstance(m, TiedLinear)]
    with torch.no_grad():
        x = torch.randn(1, 64, 96)
        assert_close(untied(attn)(x, (8, 8)), attn(x, (8, 8)))
    ratios = gradient_ratios(model, data)
    assert_close(loss_of(model, data), loss)
    uses = model.backbone.layers[0].attn
    q, k, v = uses.qkv.weight.grad.chunk(3)
    out = uses.proj.weight.grad
    expected = {
        'untied': [uses.qkv.weight.grad, out],
        'paper': [q + out.t(), k + v.t()],
        'version 2': [q + k.t(), v + out],
    }[name]
    assert len(tied) == (0 if name == 'untied' else 2)
    assert_close(own, expected, rtol=1e-3, atol=1e-5)
    qk, vo = torch.cat((q, k)).norm(), torch.cat((v, out)).norm()
    assert ratios[0] == pytest.approx((qk / vo).item(), rel=1e-5)
    assert len(ratios) == 4


@pytest.fixture
def study(tmp_path):
    """A study in stages of images that are sorted by class, not run yet."""
    for name in 'ab':
        folder = tmp_path / 'data' / 'test' / name
        folder.mkdir(parents=True)
        for i in range(8):
            image = np.full((32, 32, 3), 20 * i, np.uint8)
            cv2.imwrite(str(folder / f'{i}.jpg'), image)
    config = ROOT / 'configs' / 'studies' / 'vit_cifar10.py'
    path = tmp_path / 'staged.yaml'
    loader = dict(batch_size=8, num_workers=0, persistent_workers=False)
    loader['dataset.data_root'] = str(tmp_path / 'data')
    content = dict(
        config=str(config),
        metric='accuracy/top1',
        variants={'untied': {}},
        options={f'val_dataloader.{k}': v for k, v in loader.items()},
        stages=dict(first={}),
    )
    path.write_text(json.dumps(content))
    return path


def test_a_batch_is_of_several_classes(study):
    run = next(stages(str(study))).runs[0]
    loader = run.cfg.val_dataloader
    first, again = mixed_batch(loader), mixed_batch(loader)
    labels = {x.gt_label.item() for x in first['data_samples']}
    assert labels == {0, 1}
    assert_close(first['inputs'], again['inputs'])
    with pytest.raises(ValueError, match='all 1 images .* have the label'):
        mixed_batch(dict(loader, batch_size=1))


def test_checkpoints_are_those_of_the_stage(study, tmp_path, monkeypatch):
    """Where compare.py has put them, or an error says where they are not."""
    work, out = tmp_path / 'work', tmp_path / 'out'
    arguments = ['--work-dir', str(work), '--out', str(out)]
    argv = ['tool', str(study), '--variants', 'untied', *arguments]
    monkeypatch.setattr(sys, 'argv', argv)
    run = next(stages(str(study))).runs[0]
    folder = work / 'first' / run.folder
    with pytest.raises(SystemExit) as error:
        tool.main()
    assert f"no epoch_*.pth of 'untied, seed 0' in {folder}:" in str(
        error.value
    )
    folder.mkdir(parents=True)
    weights = build_model(run.cfg).state_dict()
    torch.save(dict(state_dict=weights), folder / 'epoch_4.pth')
    tool.main()
    results = json.loads((out / 'first' / 'gradients.json').read_text())
    assert list(results['untied']) == ['0', '4']
