"""From files of weights to detections, a picture at a time."""

import weakref

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from halvit_mm.apis import Predictor
from halvit_mm.apis.config import dataset_metainfo
from halvit_mm.apis.predict import Source
from halvit_mm.apis.predict import model as model_file
from halvit_mm.checkpoint import (
    header_model,
    header_pipeline,
    save_weights,
)

from ..tiny_detector import CLASSES, PALETTE, TINY, make_run, write_image


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    return write_image(tmp_path_factory.mktemp('photo') / 'a.png')


@pytest.fixture(scope='module')
def predictor(run):
    return Predictor(str(run[0]), device='cpu')


def listen(monkeypatch):
    """What the building of a detector says."""
    said = []
    monkeypatch.setattr(model_file, 'print_log', lambda x, **_: said.append(x))
    return said


def first(predictor, source):
    return next(iter(predictor(str(source), score=0.0)))


def assert_same(prediction, other):
    assert len(other.scores) == 5
    for name in ('boxes', 'scores', 'labels', 'masks'):
        ours, theirs = getattr(prediction, name), getattr(other, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def release(path, run, **entries):
    _, cfg, model = run
    steps = cfg.test_dataloader.dataset.pipeline
    entries = (
        dict(
            classes=CLASSES,
            palette=PALETTE,
            model=header_model(cfg.model.to_dict(), path),
            test_pipeline=header_pipeline([s.to_dict() for s in steps], path),
        )
        | entries
    )
    save_weights(path, model.state_dict(), **entries)
    return str(path)


@pytest.mark.parametrize('suffix', ['safetensors', 'pth'])
def test_a_release_file(suffix, run, predictor, photo, tmp_path):
    path = release(tmp_path / f'release.{suffix}', run)
    other = Predictor(path, device='cpu')
    assert list(other.classes) == CLASSES and other.palette == PALETTE
    assert_same(first(other, photo), first(predictor, photo))


def test_a_run_folder(predictor):
    """The last checkpoint, with its classes; the config's are others."""
    assert predictor.classes == tuple(CLASSES)
    assert predictor.palette == PALETTE
    assert predictor.model.roi_head.bbox_head.num_classes == 2


def test_a_config_and_a_checkpoint(
    run, predictor, photo, tmp_path, monkeypatch
):
    config = tmp_path / 'other.py'
    config.write_text(TINY)
    weights = str(run[0] / 'epoch_1.pth')
    said = listen(monkeypatch)
    other = Predictor(weights, str(config), 'cpu')
    assert 'other.py has 3 classes: circle, square, triangle' in said[0]
    assert f'Those of {weights} are taken' in said[0]
    assert_same(first(other, photo), first(predictor, photo))


def test_a_header_that_tells_little(run, tmp_path, monkeypatch):
    """No classes, no size of the images."""
    path = release(tmp_path / 'a.pth', run, classes=None, test_pipeline=None)
    said = listen(monkeypatch)
    other = Predictor(path, device='cpu')
    assert other.classes == ('class 0', 'class 1')
    assert said[0] == f'{path} does not name its 2 classes: they are numbered'
    assert 'does not say how large its images were' in said[1]
    image = write_image(tmp_path / 'a.png', 8, 400)  # 27 x 1333 pixels
    assert first(other, image).masks.shape == (5, 8, 400)


@pytest.mark.parametrize(
    ('make', 'sentence'),
    [
        (lambda run, out: out / 'no.pth', 'there is no checkpoint .*/no.pth$'),
        (lambda run, out: out, 'there is no checkpoint in '),
        (lambda run, out: run[0] / 'tiny.py', 'tiny.py is a config: name the'),
        (
            lambda run, out: release(out / 'a.pth', run, model=None),
            'does not say what model it is of, and beside it are 0 configs',
        ),
        (
            lambda run, out: release(out / 'a.pth', run, classes=['dog']),
            r'names 1 classes, but its heads are for \[2\]$',
        ),
        (
            lambda run, out: release(
                out / 'a.pth', run, model=dict(type='ImageClassifier')
            ),
            'is ImageClassifier, which is no detector of mmdet$',
        ),
    ],
)
def test_models_that_are_refused(make, sentence, run, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        Predictor(str(make(run, tmp_path)))


def test_a_head_that_does_not_fit(run, tmp_path):
    """The file names other classes than its head was trained for."""
    content = torch.load(run[0] / 'epoch_1.pth', weights_only=True)
    content['meta']['dataset_meta']['classes'] = ['a', 'b', 'c']
    torch.save(content, tmp_path / 'wrong.pth')
    config = str(run[0] / 'tiny.py')
    with pytest.raises(ValueError, match='wrong.pth does not fit MaskRCNN'):
        Predictor(str(tmp_path / 'wrong.pth'), config)


def test_boxes_are_those_of_the_image_as_it_is_shown(predictor, tmp_path):
    """EXIF says: turn it. 16 bits are refused, as in the test."""
    image = Image.new('RGB', (60, 40))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / 'turned.jpg', exif=exif)
    found = first(predictor, tmp_path / 'turned.jpg')
    assert found.image.shape == (60, 40, 3)
    assert found.masks.shape == (5, 60, 40)
    assert found.boxes[:, 2].max() <= 40 and found.boxes.min() >= 0
    deep = np.full((40, 60), 60000, np.uint16)
    assert cv2.imwrite(str(tmp_path / 'deep.png'), deep)
    source = Source(str(tmp_path / 'deep.png'))
    assert list(predictor(source)) == []
    assert 'holds uint16 values from 60000 to 60000' in source.skipped[0]


def test_scores(predictor, photo):
    everything = first(predictor, photo)
    least = float(np.sort(everything.scores)[2])
    (found,) = predictor(str(photo), score=least)
    assert (found.scores >= least).all() and len(found.scores) == 3
    with pytest.raises(ValueError, match='score=50: 0 to 1'):
        next(predictor(str(photo), score=50))


def test_nothing_is_kept(predictor, tmp_path):
    """As soon as one asks for the next image, the last one is gone."""
    for i in range(4):
        write_image(tmp_path / f'{i}.png', seed=i)
    gone = []
    for prediction in predictor(str(tmp_path), score=0.0):
        assert all(reference() is None for reference in gone)
        parts = (prediction.image, prediction.masks, prediction.boxes)
        gone += map(weakref.ref, parts)
        del prediction, parts
    assert len(gone) == 12


@pytest.mark.parametrize('kind', ['CocoDataset', 'halvit_mm.CocoDataset'])
def test_classes_of_a_config(kind):
    """Its own, and else those of the class of its data set."""
    dataset = dict(type=kind)
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    found = dataset_metainfo(cfg)
    assert len(found['classes']) == len(found['palette']) == 80
    assert found['classes'][0] == 'person'
    cfg.test_dataloader.dataset.metainfo = dict(classes='balloon')
    assert dataset_metainfo(cfg) == dict(classes=('balloon',))
