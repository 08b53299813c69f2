"""A tiny classifier is compressed, tested and trained by the tools."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import load_file
from torch.testing import assert_close

from halvit_mm.apis import load_config, training
from halvit_mm.apis import test as evaluate
from halvit_mm.apis.compress import (
    calibration_batches,
    compress_checkpoint,
    compressed_config,
    estimate,
    load_original,
    read_settings,
)
from halvit_mm.apis.compress import compress as compress_backbone
from halvit_mm.apis.model_info import (
    build_counted,
    build_model,
    count_parameters,
)
from halvit_mm.checkpoint import load_weights, read_header
from halvit_mm.compression import (
    CalibrationConfig,
    FiPSConfig,
    convert,
    plan_compression,
    prepare,
    read_compressed,
)

from ..commands import ROOT
from .conftest import TWO_CLASSES, assert_picture, draw_dark_and_light, tool

CONFIG = ROOT / 'configs' / 'fips' / 'vit_cifar10_fips.py'
OPTIONS = {
    **TWO_CLASSES,
    'model.backbone.arch.feedforward_channels': 64,
    'fips.num_batches': 2,
    'fips.held_out': 1,
    'fips.batch_size': 8,
    'fips.epochs': 3,
    'fips.interval': 2,
    'optim_wrapper.type': 'OptimWrapper',
    'train_cfg.max_epochs': 1,
}


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
    """A checkpoint, the command line's options, a folder."""
    folder = tmp_path_factory.mktemp('compress')
    draw_dark_and_light(folder / 'data', 12)
    options = {**OPTIONS, 'data_root': str(folder / 'data')}
    torch.manual_seed(0)
    model = build_model(load_config(str(CONFIG), options))
    model.init_weights()
    checkpoint = folder / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return checkpoint, [f'{k}={v}' for k, v in options.items()], folder


def config_of(setting, **options):
    """The config of the tiny classifier with its data."""
    options = {**OPTIONS, 'data_root': str(setting[2] / 'data'), **options}
    return load_config(str(CONFIG), options)


def calibrate_on(cfg, model, **options):
    """Two batches of eight images, none held out."""
    options = dict(num_batches=2, batch_size=8, held_out=0) | options
    return calibration_batches(cfg, model, CalibrationConfig(**options))[0]


def compress(setting, out):
    checkpoint, options, _ = setting
    command = ('compress', CONFIG, checkpoint)
    return tool(*command, budget=0.4, out=out, options=options).stdout


@pytest.fixture(scope='module')
def stdout(setting):
    """What the tool prints."""
    return compress(setting, setting[2] / 'out')


@pytest.fixture(scope='module')
def out(stdout, setting):
    """What the tool writes."""
    return setting[2] / 'out'


def test_what_it_writes(out, stdout):
    # 4 layers of two weights: r = 0.4 d P / (d + P / 4), d = 24, P = 512
    rank = int(0.4 * 24 * 512 / (24 + 0.25 * 512))
    report = json.loads((out / 'report.json').read_text())
    (group,) = report['groups']
    assert group['structure'][2] == rank
    assert report['parameters'] / report['dense_parameters'] <= 0.4
    assert len(report['errors']) == 4
    assert all(e['after'] < e['before'] for e in report['errors'])
    density = np.mean(list(report['densities'].values()))
    assert density == pytest.approx(0.25, abs=1e-3)
    assert report['recommended'] in ('materialize', 'low_rank')
    size = (out / 'compressed.safetensors').stat().st_size
    assert report['file_bytes'] == size < report['original_bytes']
    assert 'SVD error' in stdout and str(rank) in stdout
    flat = ' '.join(stdout.split())
    assert '1 pass of 6 steps: gmp, sparsity 0.75, over the group' in flat
    # A log gets lines instead of a bar.
    assert '3 of 6 steps, error now at most 0.' in flat
    assert '6 of 6 steps' in flat
    table = (out / 'report.md').read_text()
    assert '| layers.3.ffn |' in table
    assert_picture(out / 'report.png')
    names = read_compressed(out / 'compressed.safetensors').state_dict
    assert 'backbone.inner.shared_bases.group0.weight' in names


def test_the_file_says_of_which_model_it_is(out):
    path = out / 'compressed.safetensors'
    model = read_header(path)['model']
    assert model['backbone']['checkpoint'] is None
    model['backbone']['checkpoint'] = str(path)
    rebuilt = MODELS.build(dict(model, _scope_='mmpretrain'))
    assert load_weights(rebuilt, str(path)) == 1.0


def test_it_is_evaluated_and_trained_as_any_other(out, setting):
    folder = setting[2]
    files = (out / 'config.py', out / 'compressed.safetensors')
    evaluated = tool('test', *files, work_dir=folder / 'test')
    assert 'accuracy/top1' in evaluated.stdout
    config = folder / 'finetune.py'
    config.write_text(
        f"_base_ = '{out}/config.py'\n"
        "custom_hooks = [dict(type='halvit_mm.RigLHook', interval=1)]\n"
    )
    trained = tool('train', config, work_dir=folder / 'train')
    assert 'accuracy/top1' in trained.stdout
    # from the whole model, not only from the backbone
    said = f'{out}/compressed.safetensors: loaded 100.0% of the bytes'
    assert said in trained.stdout
    state = torch.load(folder / 'train' / 'epoch_1.pth', weights_only=True)
    before = read_compressed(out / 'compressed.safetensors').state_dict
    masks = [name for name in before if name.endswith('mask')]
    after = state['state_dict']
    kept = sum(int(before[name].sum()) for name in masks)
    assert sum(int(after[name].sum()) for name in masks) == kept
    assert any((before[name] != after[name]).any() for name in masks)


def test_a_compressed_file_is_not_for_the_original_config(out, setting):
    cfg = config_of(setting, work_dir=str(setting[2] / 'no'))
    with pytest.raises(ValueError, match='take the config.py beside the'):
        evaluate(cfg, str(out / 'compressed.safetensors'))


def test_a_finished_run_does_not_start_again(out, setting):
    before = (out / 'compressed.safetensors').read_bytes()
    state = out / 'states' / 'pass0.pt'
    time = state.stat().st_mtime_ns
    compress(setting, out)
    assert state.stat().st_mtime_ns == time
    assert (out / 'compressed.safetensors').read_bytes() == before


def test_a_checkpoint_of_more_layers_is_refused(setting, tmp_path):
    checkpoint, options, _ = setting
    options = [*options, 'model.backbone.arch.num_layers=2']
    command = ('compress', CONFIG, checkpoint)
    result = tool(*command, out=tmp_path, options=options, check=False)
    assert result.returncode
    assert 'names are not known here' in ' '.join(result.stdout.split())
    assert 'Traceback' not in result.stdout


@pytest.mark.parametrize('how', ['fips', 'prune'])
def test_a_backbone_alone_stays_one(setting, tmp_path, how):
    """Without settings in the config; a model is trained on the result."""
    state = torch.load(setting[0], weights_only=True)['state_dict']
    state = {
        k.removeprefix('backbone.'): v
        for k, v in state.items()
        if not k.startswith('head')
    }
    file, out = tmp_path / 'backbone.pth', tmp_path / 'out'
    torch.save(state, file)
    options = [o for o in setting[1] if not o.startswith('fips')]
    options.append(f'{how}.held_out=1')
    config = ROOT / 'configs' / 'studies' / 'vit_cifar10.py'
    said = tool(
        *('compress', config, file, '--how', how, '--images', 16),
        out=out,
        options=options,
    ).stdout
    said = ' '.join(said.split())
    assert 'backbone.pth holds a backbone without head.: only the' in said
    assert f'tools/train.py {out}/config.py' in said
    assert 'on held-out images at most' in said
    path = out / 'compressed.safetensors'
    assert read_header(path)['model'] is None
    cfg = load_config(str(out / 'config.py'), work_dir=str(tmp_path / 'train'))
    assert cfg.load_from is None
    names = load_file(path)
    assert all(name.startswith('backbone.') for name in names)
    model = build_model(cfg)
    model.init_weights()
    own = model.backbone.state_dict()
    if how == 'prune':
        assert own['layers.3.ffn.layers.0.0.weight'].shape == (32, 24)
        for name, value in own.items():
            assert_close(value, names[f'backbone.{name}'], rtol=0, atol=0)
    stored, _ = count_parameters(model.backbone)
    assert stored < sum(value.numel() for value in state.values())


def test_a_pruned_model_is_a_plain_one(setting, tmp_path):
    """Also of the host; it scores what it scored before it was saved."""
    options = {
        'model.backbone.type': 'mmpretrain.VisionTransformer',
        'model.backbone.layer_cfgs': dict(_delete_=True),
    }
    cfg = config_of(setting, **options)
    checkpoint = tmp_path / 'host.pth'
    model = build_model(cfg)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    cfg.prune = dict(num_batches=2, batch_size=8, held_out=0, epochs=1)
    config = read_settings(cfg, 'prune', budget=0.5)
    out = tmp_path / 'out'
    result = compress_checkpoint(cfg, str(checkpoint), config, out)
    assert result.share == 0.5
    cfg = load_config(str(out / 'config.py'), work_dir=str(tmp_path / 'test'))
    assert cfg.model.backbone.type == 'mmpretrain.VisionTransformer'
    assert cfg.model.backbone.arch.feedforward_channels == 32
    twin = build_model(cfg).eval()
    path = str(out / 'compressed.safetensors')
    assert load_weights(twin, path) == 1.0
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = result.compression.model(images)[0]
        assert_close(twin.backbone(images)[0], expected)
    assert 'accuracy/top1' in evaluate(cfg, path)
    assert '| 32 of 64 |' in (out / 'report.md').read_text()
    assert_picture(out / 'report.png')


def test_what_cannot_be_pruned_is_told(setting, tmp_path):
    tied = config_of(setting, **{'model.backbone.type': 'halvit_mm.HaLViT'})
    model = build_model(tied)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'tied.pth')
    config = read_settings(tied, 'prune')
    with pytest.raises(ValueError, match='A tied FFN has one for both: FiPS'):
        compress_checkpoint(
            tied, str(tmp_path / 'tied.pth'), config, tmp_path / 'out'
        )
    with pytest.raises(ValueError, match='7 images do not fill a batch of 8'):
        read_settings(tied, 'prune', 7)


def test_what_is_compressed_already_is_refused(out, setting, tmp_path):
    path = out / 'compressed.safetensors'
    trained = tmp_path / 'trained.pth'
    torch.save(dict(state_dict=read_compressed(path).state_dict), trained)
    original = config_of(setting)
    for cfg, checkpoint in (
        (original, path),
        (original, trained),
        (load_config(str(out / 'config.py')), path),
    ):
        with pytest.raises(ValueError, match='is compressed already: take'):
            load_original(cfg, str(checkpoint))


def test_parameters_are_counted_without_what_is_pruned(out):
    report = json.loads((out / 'report.json').read_text())
    model = build_counted(load_config(str(out / 'config.py')))
    dense = count_parameters(build_model(load_config(str(CONFIG), OPTIONS)))
    stored, effective = count_parameters(model)
    saved = report['dense_parameters'] - report['parameters']
    assert stored == dense[0] - saved
    assert effective == dense[1]


def test_the_folder_can_be_moved(out, tmp_path):
    moved = tmp_path / 'moved'
    shutil.copytree(out, moved)
    cfg = load_config(str(moved / 'config.py'))
    beside = str(moved / 'compressed.safetensors')
    assert cfg.load_from == cfg.model.backbone.checkpoint == beside


@pytest.mark.parametrize('execution', ['materialize', 'low_rank'])
def test_executions_score_the_same(out, execution, tmp_path, monkeypatch):
    chosen = []

    def record(model, name):
        chosen.append(name)
        return convert(model, name)

    monkeypatch.setattr(training, 'convert', record)
    cfg = load_config(str(out / 'config.py'), work_dir=str(tmp_path))
    path = str(out / 'compressed.safetensors')
    expected = evaluate(cfg, path)
    cfg = load_config(str(out / 'config.py'), work_dir=str(tmp_path))
    assert evaluate(cfg, path, execution=execution) == expected
    assert chosen == [execution]


def test_a_wrapped_training_set(setting):
    cfg = config_of(setting)
    model = build_model(cfg)
    expected = calibrate_on(cfg, model)[1]
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=cfg.train_dataloader.dataset
    )
    batches = calibrate_on(cfg, model)
    assert torch.equal(batches[1], expected)
    assert torch.equal(batches[1], expected)  # read again


def test_estimate(setting):
    cfg = config_of(setting)
    model = build_model(cfg)
    batches = calibrate_on(cfg, model)
    original = model.backbone
    inner = copy.deepcopy(original)
    compression = prepare(inner, FiPSConfig.from_mapping(cfg.fips))
    (units,) = estimate(original, compression, batches)
    for i, unit in enumerate(units):
        assert unit.name == f'layers.{i}.ffn'
        # input and output: 16 images of 64 tokens of 24 numbers, 4 bytes each
        assert unit.num_bytes == 2 * 16 * 64 * 24 * 4
        assert unit.seconds > 0
    assert len(units) == 4
    for one in (original, inner):
        assert all(p.grad is None for p in one.parameters())


def test_a_backbone_of_the_host(setting, tmp_path):
    """Through files and back, to the same outputs."""
    options = {
        'model.backbone.type': 'mmpretrain.VisionTransformer',
        'model.backbone.layer_cfgs': dict(_delete_=True),
    }
    cfg = config_of(setting, **options)
    model = build_model(cfg)
    groups = [r'layers\.\d\.ffn\.layers']
    config = FiPSConfig.from_mapping(cfg.fips, groups=groups)
    images = torch.randn(4, 3, 32, 32)
    plan = plan_compression(copy.deepcopy(model.backbone), config)
    compress_backbone(model, plan, [images] * 2, tmp_path)
    file = str(tmp_path / 'compressed.safetensors')
    twin = build_model(compressed_config(cfg, file))
    twin.init_weights()
    with torch.no_grad():
        expected = model.eval().extract_feat(images)[0]
        assert_close(twin.eval().extract_feat(images)[0], expected)


def test_calibration_images_are_balanced(setting):
    cfg = config_of(setting)
    model = build_model(cfg)
    first, second = calibrate_on(cfg, model)
    assert first.shape == (8, 3, 32, 32)
    # classes differ by their brightness alone
    light = [(batch.mean((1, 2, 3)) > 0).sum() for batch in (first, second)]
    assert light == [4, 4]
    again = calibrate_on(cfg, model)[0]
    other = calibrate_on(cfg, model, seed=1)[0]
    assert torch.equal(first, again) and not torch.equal(first, other)
    with pytest.raises(ValueError, match='the training set has 24'):
        calibrate_on(cfg, model, num_batches=9)


def test_held_out_images_are_others(setting):
    cfg = config_of(setting)
    config = CalibrationConfig(num_batches=1, held_out=2, batch_size=8)
    one, two = calibration_batches(cfg, build_model(cfg), config)
    every = torch.cat([*one, *two]).flatten(1)
    assert (len(one), len(two)) == (1, 2)
    assert len(every.unique(dim=0)) == len(every)
    with pytest.raises(ValueError, match='and 3 that are held out'):
        calibration_batches(cfg, build_model(cfg), replace(config, held_out=3))
