"""ONNX files of every backbone and of classifiers: the same, stored once."""

import json
import re
import sys

import pytest
import torch
from mmdet.models import DetDataPreprocessor, SwinTransformer
from torch import nn
from torch.testing import assert_close

from halvit_mm.apis import load_config
from halvit_mm.apis.export import export, onnx_file
from halvit_mm.apis.export.comparison import compare
from halvit_mm.apis.export.features import Classifier, Features
from halvit_mm.apis.export.supported import check_any_size
from halvit_mm.apis.model_info import build_model, count_parameters
from halvit_mm.models import GroupedViT, HaLViT, SharedHaLViT, TiedResNet

from ..helpers import DETECTION, randomise
from ..models.wrappers.test_compressed_backbone import compressed_file

pytest.importorskip('onnx', reason='the extra `export` is not installed')
runtime = pytest.importorskip('onnxruntime')

ARCH2 = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
WINDOWS = dict(**DETECTION, window_size=3, window_block_indexes=[0])
FEW_STAGES = dict(base_channels=8, num_stages=2, tied_stages=(1,))
FEW_STAGES.update(strides=(1, 2), dilations=(1, 1), out_indices=(1,))
MODELS = {
    'halvit-signed-like-windows': (
        HaLViT,
        dict(gain='signed', attn='like', **WINDOWS),
    ),
    'shared': (SharedHaLViT, dict(share_vectors=False)),
    'grouped': (GroupedViT, dict(shares=['ffn'])),
    'resnet50-pe': (TiedResNet, FEW_STAGES),
}
OPTIMIZED = dict(optimize=True)
SHAPES = [(1, 3, 32, 32), (3, 3, 48, 40), (2, 3, 40, 96)]


class Model(nn.Module):
    """What the hosts' models have in common."""

    with_neck = False

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.data_preprocessor = DetDataPreprocessor(
            mean=[110.0, 120.0, 130.0], std=[50.0, 60.0, 70.0]
        )


def features(name):
    cls, options = MODELS.get(name, (HaLViT, {}))
    if cls is TiedResNet:
        return Features(Model(cls(**options))).eval()
    options = {'arch': ARCH2, 'img_size': 32, 'patch_size': 8, **options}
    return Features(Model(randomise(cls(**options)))).eval()


def images(shape):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator) * 255


@pytest.mark.parametrize('name', MODELS)
def test_any_batch_and_size(name, tmp_path):
    graph, path = features(name), tmp_path / 'model.onnx'
    program = onnx_file.trace(graph, 8)
    onnx_file.write_onnx(program, ['feature0'], path, {})
    stored = onnx_file.check_stored_once(path, program, False)
    assert b'site-packages' not in path.read_bytes()  # no source lines
    state = graph.backbone.state_dict().values()
    expected = sum(t.numel() * t.element_size() for t in state)
    assert stored.megabytes == pytest.approx(expected / 1e6, rel=0.01)
    assert int.__lt__(*count_parameters(graph))  # it is tied
    session = runtime.InferenceSession(path)
    for shape in SHAPES:
        actual = session.run(None, {'images': images(shape).numpy()})
        with torch.no_grad():
            expected = graph(images(shape))[-1]
        actual = torch.from_numpy(actual[0])
        assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def write_classifier(folder):
    """Write the config and the weights of a compressed HaLViT.

    Returns:
        The paths, and the model.
    """
    options = dict(out_type='avg_featmap', with_cls_token=False, arch=ARCH2)
    compressed_file(folder / 'fips.safetensors', HaLViT, **options)
    backbone = dict(type='halvit_mm.HaLViT', img_size=32)
    backbone.update(patch_size=8, **options)
    model = dict(
        type='ImageClassifier',
        backbone=dict(
            type='halvit_mm.CompressedBackbone',
            backbone=backbone,
            checkpoint=str(folder / 'fips.safetensors'),
        ),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
        data_preprocessor=dict(mean=[120] * 3, std=[60] * 3, to_rgb=True),
    )
    config = folder / 'classifier.py'
    config.write_text(
        "custom_imports = dict(imports=['halvit_mm'])\n"
        f"default_scope = 'mmpretrain'\nmodel = {model!r}\n"
    )
    model = build_model(load_config(str(config), read_data=False)).eval()
    randomise(model.head)
    content = dict(
        meta=dict(dataset_meta=dict(classes=['cat', 'dog'])),
        state_dict=model.state_dict(),
    )
    torch.save(content, folder / 'model.pth')
    return folder / 'model.pth', config, model


def test_a_compressed_classifier(tmp_path):
    """FiPS: written dense, which is said; the logits of the host's model."""
    weights, config, model = write_classifier(tmp_path)
    path = tmp_path / 'model.onnx'
    said = '\n'.join(export(str(weights), path, str(config)))
    assert '2 FiPS products of base and factor are written as dense' in said
    assert '3 images: differs by ' in said
    session = runtime.InferenceSession(path)
    image = images((2, 3, 40, 32))
    actual = session.run(['logits'], {'images': image.numpy()})[0]
    data = model.data_preprocessor(dict(inputs=image.flip(1)))
    with torch.no_grad():
        expected = model(**data, mode='tensor')
    assert_close(torch.from_numpy(actual), expected, atol=1e-4, rtol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts['classes']) == ['cat', 'dog']
    assert json.loads(facts['multiple_of']) == 8


@pytest.fixture(scope='module')
def traced():
    """A HaLViT that returns its first layer, and its program."""
    graph = features('halvit')
    graph.backbone.out_indices = [0]
    return graph, onnx_file.trace(graph, 8, (32, 32))


def test_float16_halves_the_file(tmp_path, monkeypatch, traced):
    (graph, program), path = traced, tmp_path / 'model.onnx'
    monkeypatch.setattr(onnx_file, 'HALVED', 1000)
    onnx_file.write_onnx(program, ['x'], path, {}, half=True)
    stored = onnx_file.check_stored_once(path, program, True)
    assert stored.unused > 0.01  # the last layer is left out
    own = count_parameters(graph)[0] * 4e-6 - stored.unused
    assert stored.megabytes < own * 0.8
    said = compare(path, graph, size=(32, 32))
    assert 1e-6 < float(said.split()[4]) < 1e-2


def test_what_is_stored_twice_is_refused(tmp_path, monkeypatch, traced):
    """As onnxscript's optimizer leaves it: small transposes are computed."""
    (_, program), path = traced, tmp_path / 'model.onnx'
    write = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, 'export', lambda *a, **k: write(*a, **k | OPTIMIZED)
    )
    onnx_file.write_onnx(program, ['x'], path, {})
    with pytest.raises(ValueError, match='model.onnx is removed: its tensors'):
        onnx_file.check_stored_once(path, program, False)
    assert not path.exists()


def test_without_onnx(tmp_path, monkeypatch):
    """One sentence, before anything takes time."""
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(
        ImportError, match=r"pip install 'halvit-mm\[export\]'"
    ):
        export('no.pth', tmp_path / 'a.onnx')


@pytest.mark.parametrize('size', [(32, 36), (0, -8)])
def test_a_size_that_does_not_fit(size):
    message = re.escape(f'{size} is not a multiple of 8')
    with pytest.raises(ValueError, match=message):
        onnx_file.trace(features('halvit'), 8, size)


@pytest.mark.parametrize(
    ('out', 'picture', 'error', 'message'),
    [
        ('config.py/a.onnx', None, OSError, 'config.py/a.onnx cannot be'),
        ('a.onnx', 'config.py', ValueError, 'config.py is no image that Open'),
        ('a.onnx', 'no.png', ValueError, 'no.png is no image that OpenCV can'),
    ],
)
def test_what_cannot_be_is_said_first(out, picture, error, message, tmp_path):
    (tmp_path / 'config.py').touch()
    pictures = [str(tmp_path / picture)] if picture else []
    with pytest.raises(error, match=message):
        export('no.pth', tmp_path / out, pictures=pictures)
    assert not (tmp_path / 'a.onnx').exists()


def test_swin_is_for_one_size():
    swin = SwinTransformer(8, depths=[1], num_heads=[1], out_indices=[0])
    check_any_size(swin, (224, 224))
    with pytest.raises(ValueError, match='SwinTransformer .* any size: say'):
        check_any_size(swin, None)


def test_what_pytorch_cannot_follow(tmp_path, monkeypatch):
    """One sentence instead of its pages."""

    def forward(self, x):
        return self.norm(x) if x.sum() > 0 else x

    weights, config, _ = write_classifier(tmp_path)
    monkeypatch.setattr(Classifier, 'forward', forward)
    with pytest.raises(
        ValueError, match='model.pth cannot be exported: Could'
    ):
        export(str(weights), tmp_path / 'a.onnx', str(config))
