"""What predictions are read from, and what is written of them."""

import json
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from halvit_mm.apis import Predictor
from halvit_mm.apis.predict import Source

from ..tiny_detector import CLASSES, make_run, write_image

pytest.importorskip('supervision')
BOX = [8.0, 4.0, 40.0, 30.0]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp('run'))[0]
    return Predictor(str(folder), device='cpu')


@pytest.fixture
def predictor(trained, monkeypatch):
    """One that finds the same square on every image."""

    def test_step(batch):
        size = batch['data_samples'][0].ori_shape
        masks = torch.zeros(2, *size, dtype=torch.bool)
        masks[:, 4:30, 8:40] = True
        found = InstanceData(
            bboxes=torch.tensor([BOX, BOX]),
            scores=torch.tensor([0.75, 0.25]),
            labels=torch.tensor([1, 0]),
            masks=masks,
        )
        return [DetDataSample(pred_instances=found)]

    monkeypatch.setattr(trained.model, 'test_step', test_step)
    return trained


def write_video(path, number=30, size=64, codec='MJPG'):
    fourcc = cv2.VideoWriter_fourcc(*codec)
    writer = cv2.VideoWriter(str(path), fourcc, 12, (size, size))
    generator = np.random.default_rng(0)
    for i in range(number):
        frame = np.full((size, size, 3), i % 250, np.uint8)
        frame[40:, 40:] = generator.integers(0, 255, (size - 40,) * 2 + (3,))
        writer.write(frame)
    writer.release()
    return path


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 12
    number = 0
    while capture.read()[0]:
        number += 1
    return number


def test_pictures(predictor, tmp_path):
    """A box in the colour of its class; others are as they were."""
    image = write_image(tmp_path / 'in' / 'a.png', 480, 640)
    write_image(tmp_path / 'in' / 'small.tif')
    summary = predictor.save(str(tmp_path / 'in'), str(tmp_path / 'out'))
    assert summary == (2, 2, [])
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'a.png', 'small.tif.png'}
    before = cv2.imread(str(image))
    after = cv2.imread(str(tmp_path / 'out' / 'a.png'))
    assert (after[30, 12:36] == [255, 0, 0]).all()  # blue, as BGR
    mixed = 0.5 * before[20, 20] + 0.5 * np.array([255, 0, 0])
    assert np.abs(after[20, 20] - mixed).max() <= 1
    assert (after[100:, 200:] == before[100:, 200:]).all()
    small = cv2.imread(str(tmp_path / 'out' / 'small.tif.png'))
    assert small.shape == (480, 640, 3)  # 48 x 64, ten times


def test_results_of_a_folder(predictor, tmp_path):
    """They and their images load as COCO's results do."""
    coco = pytest.importorskip('pycocotools.coco')
    for name in ('a.png', 'b.png'):
        write_image(tmp_path / 'in' / name)
    out = tmp_path / 'out'
    predictor.save(str(tmp_path / 'in'), str(out), 0.0, json=True)
    images = coco.COCO(str(out / 'images.json'))
    assert [images.imgs[i]['file_name'] for i in (1, 2)] == ['a.png', 'b.png']
    assert [c['name'] for c in images.cats.values()] == CLASSES
    results = images.loadRes(str(out / 'results.json'))
    found = results.imgToAnns[2]
    assert [a['bbox'] for a in found] == [[8, 4, 32, 26]] * 2
    assert [a['score'] for a in found] == [0.75, 0.25]
    assert [a['category_id'] for a in found] == [2, 1]
    assert found[0]['area'] == 32 * 26


def test_a_coco_json(predictor, tmp_path):
    """Its ids; a class that it lacks gets a new one. Sizes are compared."""
    for name in ('a.png', 'deep/b.png', 'c.png'):
        write_image(tmp_path / 'images' / name)
    names = ('a.png', 'deep/b.png', 'gone.png', 'c.png')
    images = [
        dict(id=10 + i, file_name=name, height=48, width=64)
        for i, name in enumerate(names)
    ]
    images[3]['height'] = 50
    categories = [dict(id=7, name='square')]
    path = tmp_path / 'annotations' / 'test.json'
    path.parent.mkdir()
    path.write_text(json.dumps(dict(images=images, categories=categories)))
    other, leaving = path.with_name('other.json'), tmp_path / 'images/a.png'
    images[0]['file_name'] = str(leaving)
    other.write_text(json.dumps(dict(images=images, categories=categories)))
    with pytest.raises(FileNotFoundError, match='none of the 4 .* --images'):
        predictor.save(str(path), str(tmp_path / 'no'))
    with pytest.raises(ValueError, match=f'names leave .*: {leaving}'):
        predictor.save(str(other), str(tmp_path / 'no'))
    summary = predictor.save(
        str(path),
        str(tmp_path / 'out'),
        0.0,
        json=True,
        images=str(tmp_path / 'images'),
    )
    assert (summary.images, summary.objects) == (2, 4)
    gone, other = summary.skipped
    assert 'gone.png is left out: No such file or directory' in gone
    assert 'c.png is 48 x 64 pixels (height x width), but 50 x 64' in other
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert [r['image_id'] for r in results] == [10, 10, 11, 11]
    assert [r['category_id'] for r in results[:2]] == [7, 8]
    assert (tmp_path / 'out' / 'deep' / 'b.png').is_file()
    assert not (tmp_path / 'out' / 'images.json').exists()


def test_a_video_of_300_images(predictor, tmp_path):
    path = write_video(tmp_path / 'clip.mp4', 300, codec='mp4v')
    done = []
    summary = predictor.save(
        str(path), str(tmp_path / 'out'), progress=lambda *x: done.append(x)
    )
    assert summary == (300, 300, [])
    assert done == [(i, 300) for i in range(1, 301)]
    assert frames_of(tmp_path / 'out' / 'clip.mp4') == 300


def test_a_video_with_a_hole(predictor, tmp_path):
    """What can be decoded is predicted, what cannot is counted and named."""
    content = write_video(tmp_path / 'whole.avi').read_bytes()
    half = len(content) // 2
    hole = content[:half] + bytes(3000) + content[half + 3000 :]
    (tmp_path / 'hole.avi').write_bytes(hole)
    write_image(tmp_path / 'z.png')
    (tmp_path / 'whole.avi').unlink()
    out = tmp_path / 'out'
    summary = predictor.save(str(tmp_path), str(out), json=True)
    (sentence,) = summary.skipped
    images = json.loads((out / 'images.json').read_text())['images']
    frames = [image['frame'] for image in images if 'frame' in image]
    lost = 30 - len(frames)
    assert 0 < lost < 10
    assert f'{lost} of 30 images are left out, which cannot' in sentence
    assert frames_of(out / 'hole.avi.mp4') == len(frames)
    assert images[-1]['file_name'] == 'z.png'


def test_a_video_that_is_cut(predictor, tmp_path):
    path = write_video(tmp_path / 'cut.avi')
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    summary = predictor.save(str(path), str(tmp_path / 'out'))
    assert 10 < summary.images < 16
    sentence = f'cut.avi: {30 - summary.images} of 30 images are left out'
    assert sentence in summary.skipped[0]
    assert frames_of(tmp_path / 'out' / 'cut.avi.mp4') == summary.images


def test_broken_files_of_a_folder(predictor, tmp_path):
    """They are named, and all others are done."""
    (tmp_path / 'a.jpg').write_bytes(b'\xff\xd8\xff')
    (tmp_path / 'b.mp4').write_bytes(b'no video')
    write_image(tmp_path / 'c.png')
    summary = predictor.save(str(tmp_path), str(tmp_path / 'out'))
    assert summary.images == 1
    image, video = summary.skipped
    assert image.endswith('a.jpg is left out: OpenCV cannot decode it')
    assert 'b.mp4 is left out, OpenCV cannot decode it: it is damaged' in video


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('no.jpg', 'there is no .*/no.jpg$'),
        ('no.json', 'there is no .*/no.json$'),
        ('empty', 'empty: there is no image and no video; those of deeper'),
        ('empty/*.jpg', r'empty/\*.jpg: there is no image and no video$'),
        ('texts', r'texts: there is no image.*; its files are .*/a.txt$'),
        ('results.json', 'it holds a list, as a file of results does'),
    ],
)
def test_sources_that_are_refused(name, sentence, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a.txt').write_text('')
    (tmp_path / 'results.json').write_text('[]')
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        Source(str(tmp_path / name))


def test_a_pattern(tmp_path):
    for name in ('a/1.png', 'b/c/2.png', 'b/3.jpg'):
        write_image(tmp_path / name)
    names = [frame.name for frame in Source(f'{tmp_path}/**/*.png')]
    assert names == ['a/1.png', 'b/c/2.png']
    with pytest.raises(ValueError, match='images goes with a COCO JSON'):
        Source(str(tmp_path), 'x')


def test_a_folder_without_permission(predictor, tmp_path, monkeypatch):
    """Root may write anywhere."""
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    image = write_image(tmp_path / 'a.png')
    with pytest.raises(OSError, match='written to .Permission denied.: name'):
        predictor.save(str(image), str(tmp_path / 'out'))


def test_outputs_that_are_refused(predictor, tmp_path):
    image = write_image(tmp_path / 'a.png')
    content = image.read_bytes()
    with pytest.raises(OSError, match='would replace the image itself'):
        predictor.save(str(tmp_path), str(tmp_path))
    assert image.read_bytes() == content
    sentence = 'a.png/out cannot be written to .Not a directory.: name another'
    with pytest.raises(OSError, match=sentence):
        predictor.save(str(tmp_path), str(image / 'out'))
    (tmp_path / 'out' / 'a.png').mkdir(parents=True)
    with pytest.raises(OSError, match='out/a.png cannot be written'):
        predictor.save(str(tmp_path), str(tmp_path / 'out'))
    video = write_video(tmp_path / 'clip.avi', 2)
    (tmp_path / 'out' / 'clip.avi.mp4').mkdir()
    with pytest.raises(OSError, match='clip.avi.mp4 cannot be written'):
        predictor.save(str(video), str(tmp_path / 'out'))


def test_results_are_whole_after_an_interruption(predictor, tmp_path):
    for i in range(3):
        write_image(tmp_path / 'in' / f'{i}.png')

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / 'out'
    args = (str(tmp_path / 'in'), str(out))
    with pytest.raises(KeyboardInterrupt):
        predictor.save(*args, json=True, progress=interrupt)
    assert len(json.loads((out / 'results.json').read_text())) == 2
    assert len(json.loads((out / 'images.json').read_text())['images']) == 2
    assert sorted(os.listdir(out))[:2] == ['0.png', '1.png']


def test_without_supervision(predictor, tmp_path, monkeypatch):
    """Numbers need no extra; pictures name the command that installs it."""
    monkeypatch.setitem(sys.modules, 'supervision', None)
    path = str(write_image(tmp_path / 'a.png'))
    assert len(list(predictor(path))) == 1
    with pytest.raises(ImportError, match="pip install 'supervision>=0.31"):
        predictor.save(path, str(tmp_path / 'out'))
