"""Checkpoints in test(), compress() and dense_model(): one loader for all."""

import runpy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from torch.testing import assert_close

from halvit_mm import apis
from halvit_mm.apis import training
from halvit_mm.apis.compress import load_original, save_dense
from halvit_mm.apis.model_info import build_model
from halvit_mm.checkpoint import (
    files,
    load_weights,
    read_header,
    save_weights,
)
from halvit_mm.compression import (
    FiPSConfig,
    prepare,
    read_compressed,
    save_compressed,
)
from tests.commands import ROOT
from tests.helpers import ARCH, randomise
from tests.tools.conftest import tool

VIT = dict(type='halvit_mm.PlainViT', arch=ARCH, img_size=32, patch_size=8)


def config(backbone, **kwargs):
    head = dict(type='VisionTransformerClsHead', num_classes=3, in_channels=32)
    return Config(
        dict(
            model=dict(type='ImageClassifier', backbone=backbone, head=head),
            default_scope='mmpretrain',
            test_evaluator=dict(type='Accuracy'),
            **kwargs,
        )
    )


def saved(path, **kwargs):
    """A classifier and its checkpoint."""
    model = randomise(build_model(config(dict(VIT, **kwargs)))).eval()
    torch.save(dict(state_dict=model.state_dict()), path)
    return model


@pytest.fixture
def compressed(tmp_path):
    """Config and file of a compressed classifier."""
    model = randomise(build_model(config(VIT)))
    fips = FiPSConfig(r'layers\.\d\.ffn', budget=0.5, sparsity=0.5)
    parts = prepare(model.backbone, fips).structures
    structures = [part.with_prefix('backbone.inner.') for part in parts]
    inner, model.backbone = model.backbone, torch.nn.Module()
    model.backbone.inner = inner
    path = str(tmp_path / 'compressed.safetensors')
    classes = ['a', 'b', 'c']
    save_compressed(model, structures, path, classes=classes)
    backbone = dict(
        type='halvit_mm.CompressedBackbone', backbone=VIT, checkpoint=path
    )
    dataset = dict(metainfo=dict(classes=classes))
    return config(backbone, test_dataloader=dict(dataset=dataset)), path


@pytest.fixture
def models(monkeypatch):
    """What test() evaluates, kept instead of run."""
    found = []

    def build_runner(cfg):
        assert cfg.load_from is None  # nothing else loads
        found.append(build_model(cfg))
        loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=None))
        return SimpleNamespace(
            model=found[-1],
            test=lambda: {},
            test_loop=loop,
            register_hook=lambda hook: None,
        )

    monkeypatch.setattr(training, 'build_runner', build_runner)
    return found


@pytest.mark.parametrize('execution', [None, 'materialize'])
def test_a_compressed_file_is_read_and_hashed_once(
    execution, compressed, models, monkeypatch
):
    cfg, path = compressed
    counts = dict(opened=0, tensors=0, checksum=0)

    def counted(name, function):
        def count(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return count

    class Opened:
        """An open file whose first tensor is counted."""

        def __init__(self, *args, **kwargs):
            self.file = safe_open(*args, **kwargs)
            counts['opened'] += 1
            self.first = True

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def get_tensor(self, name):
            counts['tensors'] += self.first
            self.first = False
            return self.file.get_tensor(name)

    safe_open = files.safe_open
    monkeypatch.setattr(files, 'safe_open', Opened)
    monkeypatch.setattr(
        files, '_checksum', counted('checksum', files._checksum)
    )
    apis.test(cfg, path, execution=execution)
    # once for the structure, before there is a model, once for the rest
    assert counts == dict(opened=2, tensors=1, checksum=1)
    expected = read_compressed(path).state_dict
    if execution is None:
        assert_close(models[0].state_dict(), expected, rtol=0, atol=0)


def test_another_image_size_is_tested_and_compressed(tmp_path, models):
    path = str(tmp_path / 'model.pth')
    theirs = saved(path)
    larger = config(dict(VIT, img_size=(48, 64)))
    apis.test(larger, path)
    original, _ = load_original(larger, path)
    fitted = build_model(larger)
    load_weights(fitted, path)
    for model in (models[0], original, fitted):
        state = model.state_dict()
        assert state['backbone.pos_embed'].shape == (1, 1 + 6 * 8, 32)
        assert torch.equal(
            state['backbone.pos_embed'], fitted.backbone.pos_embed
        )
        for name, value in theirs.state_dict().items():
            assert name.endswith('pos_embed') or torch.equal(
                state[name], value
            )


@pytest.mark.parametrize('kind', ['bias', 'weight'])
def test_what_is_evaluated_is_complete(kind, tmp_path, models):
    path, name = str(tmp_path / 'model.pth'), f'head.layers.head.{kind}'
    state = saved(path).state_dict()
    del state[name]
    torch.save(state, path)
    for load in (apis.test, load_original):
        with pytest.raises(ValueError, match=rf"missing \(1\): \['{name}'"):
            load(config(VIT), path)


def test_one_process_tests_twice(tmp_path, models):
    """mmengine's own loader in between withdraws announced classes."""
    path = str(tmp_path / 'model.pth')
    model = saved(path)
    history = dict(loss=HistoryBuffer([1.0], [1]))
    torch.save(dict(state_dict=model.state_dict(), message_hub=history), path)
    for _ in range(2):
        apis.test(config(VIT), path)
        load_checkpoint(models[-1], path)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_dense_weights_in_the_format_of_the_name(suffix, compressed, tmp_path):
    cfg, path = compressed
    out = tmp_path / 'new folder' / f'dense.{suffix}'
    number = save_dense(cfg, path, out)
    original = build_model(config(VIT))
    assert load_weights(original, str(out), min_coverage=1.0) == 1.0
    assert number == len(original.state_dict())
    if suffix == 'pth':
        header = torch.load(out, weights_only=True)['halvit_mm']
    else:
        header = read_header(out)
    assert header['classes'] == ['a', 'b', 'c']
    assert header['variant'] is None  # an untied ViT
    rebuilt = MODELS.build(dict(header['model'], _scope_='mmpretrain'))
    assert load_weights(rebuilt, str(out)) == 1.0


def test_a_test_is_watched(compressed, models):
    cfg, path = compressed
    cfg.watchdog_minutes = 0
    with pytest.raises(ValueError, match='watchdog_minutes=0: positive'):
        apis.test(cfg, path)


def test_the_converter_keeps_the_classes(tmp_path):
    model = build_model(config(VIT))
    meta = dict(classes=['a', 'b', 'c'], palette=[[1, 2, 3]] * 3)
    here, there = (tmp_path / f'{name}.safetensors' for name in 'ab')
    save_weights(here, model.state_dict(), **meta)
    tool('model_converters/convert_keys', here, there, '--to', 'mmpretrain')
    header = read_header(there)
    assert {name: header[name] for name in meta} == meta


@pytest.mark.parametrize(
    ('name', 'args', 'message'),
    [
        ('convert_keys', ('in.pth', 'x.pth', '--to', 'timm'), 'not in the ta'),
        ('convert_keys', ('in.pth', 'x.npz', '--to', 'mmpretrain'), 'ends in'),
        ('dense_from_fips', ('cfg.py', 'in.pth', 'x.pth'), 'CompressedBackb'),
    ],
)
def test_converters_fail_in_one_line(
    name, args, message, tmp_path, monkeypatch
):
    torch.save({'backbone.x.y': torch.ones(1)}, tmp_path / 'in.pth')
    if message == 'ends in':
        saved(tmp_path / 'in.pth')
    config(VIT).dump(tmp_path / 'cfg.py')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', [name, *args])
    tool = ROOT / 'tools' / 'model_converters' / f'{name}.py'
    with pytest.raises(SystemExit, match=message) as info:
        runpy.run_path(str(tool), run_name='__main__')
    assert isinstance(info.value.code, str)  # printed; the exit code is 1
    assert not (tmp_path / 'x.pth').exists()
