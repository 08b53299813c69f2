"""tools/deployment as a user calls it: a detector, and who reads the file."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from halvit_mm.apis import Predictor
from halvit_mm.apis.export.comparison import match
from halvit_mm.apis.export.exporting import make_graph
from halvit_mm.apis.predict.model import load_model

from ..commands import ROOT
from ..tiny_detector import CLASSES, TINY, make_run, spread, write_image
from .conftest import tool

pytest.importorskip('onnx', reason='the extra `export` is not installed')
runtime = pytest.importorskip('onnxruntime')

TOOL = 'deployment/export_onnx'
#: Two levels instead of five: the exporter takes its time for each.
FEW_LEVELS = """
model['backbone']['arch'].update(num_layers=1)
model['neck'].update(strides=(8, 16), num_outs=2)
model['rpn_head']['anchor_generator'] = dict(scales=[2], strides=[8, 16])
model['roi_head']['bbox_roi_extractor']['featmap_strides'] = [8, 16]
model['roi_head']['mask_roi_extractor']['featmap_strides'] = [8, 16]
"""


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    return write_image(tmp_path_factory.mktemp('photo') / 'a.png', 96, 128)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The folder of a training."""
    folder = tmp_path_factory.mktemp('run')
    _, _, model = make_run(folder, TINY + FEW_LEVELS)
    content = torch.load(folder / 'epoch_1.pth', weights_only=False)
    content['state_dict'] = spread(model).state_dict()
    torch.save(content, folder / 'epoch_1.pth')
    return folder


@pytest.fixture(scope='module')
def exported(run, photo):
    """Mask R-CNN as a file for images of any size, and what was said."""
    path = run / 'model.onnx'
    result = tool(TOOL, run, path, check=photo)
    return path, result.stdout


def test_mask_rcnn(exported):
    path, said = exported
    assert f'{path}: ' in said and ' each stored once; ' in said
    assert 'left to who reads the file: Resize\n' in said
    assert '3 images: 15 of 15 detections' in said, said[-900:]
    assert 'are among the 15 of the file' in said


def test_any_size(exported, run):
    """Padding is in the file; also of one pixel."""
    session = runtime.InferenceSession(exported[0])
    graph = make_graph(load_model(str(run), device='cpu').model)
    for size in [(77, 51), (33, 150), (1, 1)]:
        image = torch.rand(1, 3, *size) * 255
        expected = [output.numpy() for output in graph(image)]
        found = session.run(None, {'images': image.numpy()})
        assert len(found[1]) == len(expected[1]) > 0
        assert match(found, expected).all()


def test_who_reads_it_finds_what_the_predictor_finds(exported, run, photo):
    """Boxes, scores, names and pasted masks of a picture that fits."""
    consumer = runpy.run_path(f'{ROOT}/tools/deployment/detect_onnx.py')
    session = runtime.InferenceSession(exported[0])
    image = Image.open(photo).convert('RGB')
    found = list(consumer['detect'](session, image, 0.0))
    expected = next(Predictor(str(run), device='cpu')(str(photo), score=0.0))
    boxes, scores, names, masks = map(list, zip(*found))
    assert len(scores) == len(expected.scores) == 5
    assert names == [CLASSES[label] for label in expected.labels]
    np.testing.assert_allclose(boxes, expected.boxes, atol=0.1)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    for ours, theirs in zip(masks, expected.masks, strict=True):
        assert ours.shape == theirs.shape
        assert (ours == theirs).mean() > 0.999


class Session:
    """Has a test pipeline, and keeps the image that it gets."""

    def __init__(self, **step):
        facts = dict(test_pipeline=[dict(type='mmdet.Resize', **step)])
        self.custom_metadata_map = {k: json.dumps(v) for k, v in facts.items()}

    def get_modelmeta(self):
        return self

    def run(self, names, inputs):
        self.image = inputs['images'][0].transpose(1, 2, 0)
        return np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)


@pytest.mark.parametrize(
    ('step', 'size'),
    [
        (dict(scale=(200, 100), keep_ratio=True), (133, 100)),
        (dict(scale=(200, 60), keep_ratio=True), (80, 60)),
        (dict(scale=(70, 60), keep_ratio=False), (70, 60)),
        (dict(scale_factor=0.5, keep_ratio=True), (64, 48)),
    ],
)
def test_who_reads_it_resizes_as_opencv(step, size, photo):
    consumer = runpy.run_path(f'{ROOT}/tools/deployment/detect_onnx.py')
    session, image = Session(**step), Image.open(photo).convert('RGB')
    assert list(consumer['detect'](session, image)) == []
    expected = cv2.resize(np.asarray(image), size).astype(float)
    assert session.image.shape == expected.shape
    assert abs(session.image - expected).max() <= 1


def test_its_command(exported, photo, tmp_path, monkeypatch, capsys):
    script = f'{ROOT}/tools/deployment/detect_onnx.py'
    command = [script, str(exported[0]), str(photo), f'{tmp_path}/a.png', '0']
    monkeypatch.setattr(sys, 'argv', command)
    runpy.run_path(script, run_name='__main__')
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert (Image.open(tmp_path / 'a.png').size) == (128, 96)


@pytest.mark.parametrize('mode', ['I;16', 'F'])
def test_its_command_takes_8_bits(mode, tmp_path, monkeypatch):
    """Pillow would cut what is above 255 off."""
    script, photo = f'{ROOT}/tools/deployment/detect_onnx.py', 'photo.tiff'
    Image.new(mode, (8, 8)).save(tmp_path / photo)
    command = [script, 'no.onnx', str(tmp_path / photo), 'a.png']
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(AssertionError, match='photo.tiff has more than 8 b'):
        runpy.run_path(script, run_name='__main__')


def test_features_of_one_size(run, tmp_path):
    """Backbone and pyramid, and the program beside the file."""
    path, options = tmp_path / 'new' / 'model.onnx', ('--shape', 64, 96)
    options += ('--part', 'features', '--program')
    said = tool(TOOL, run, path, *options).stdout
    assert '1 images: differs by ' in said, said[-900:]
    session = runtime.InferenceSession(path)
    assert session.get_inputs()[0].shape[1:] == [3, 64, 96]
    program = torch.export.load(path.with_suffix('.pt2')).module()
    image = torch.rand(3, 3, 64, 96) * 255
    found = session.run(None, {'images': image.numpy()})
    for ours, theirs in zip(found, program(image), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_errors_in_one_line(run, tmp_path):
    result = tool(TOOL, run, tmp_path / 'model.pt', check=False)
    last = result.stdout.splitlines()[-1]
    assert last.endswith('model.pt: the name of an ONNX file ends in .onnx')
    result = tool(TOOL, run, tmp_path / 'a.onnx', '--program', check=False)
    last = result.stdout.splitlines()[-1]
    assert last.startswith('a program of torch.export is for images of one')
