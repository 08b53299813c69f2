"""Pixel values of every kind of file, as training and inference read them."""

import cv2
import numpy as np
import pytest
from mmdet.apis import DetInferencer
from mmengine.registry import TRANSFORMS, init_default_scope
from PIL import Image

from halvit_mm.datasets import LoadImageFromFile
from halvit_mm.datasets.loading import to_eight_bits

from ..commands import ROOT

SIZE = (6, 8)  # height and width
RGB = (200, 100, 50)
BGR = RGB[::-1]
GREY = 124  # of that colour


def photo():
    """Of one colour but for the first pixel, which is black."""
    pixels = np.full((*SIZE, 3), RGB, np.uint8)
    pixels[0, 0] = 0
    return Image.fromarray(pixels)


def filled(value, dtype, channels=()):
    return np.full((*SIZE, *channels), value, dtype)


def load(path, **kwargs):
    results = LoadImageFromFile(**kwargs)(dict(img_path=str(path)))
    img = results['img']
    assert img.flags.c_contiguous
    assert results['img_shape'] == results['ori_shape'] == img.shape[:2]
    return img


def save(path, image, **kwargs):
    """Write with Pillow what is an image, with OpenCV what is an array."""
    if isinstance(image, np.ndarray):
        # as it is: OpenCV's default for colours in floats loses precision
        raw = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
        assert cv2.imwrite(str(path), image, raw)
    else:
        image.save(path, **kwargs)
    return path


def translucent(mode='RGB', alpha=0):
    image = photo().convert(mode)
    image.putalpha(alpha)
    return image


def palette():
    return photo().convert('P', palette=Image.ADAPTIVE)


EXACT = {
    'rgb.png': (photo, BGR),
    'rgb.tif': (photo, BGR),
    'grey.png': (lambda: photo().convert('L'), [GREY] * 3),
    'rgba.png': (translucent, BGR),
    'la.png': (lambda: translucent('L'), [GREY] * 3),
    'opaque.tif': (lambda: translucent(alpha=255), BGR),
    # multiplied by 102 / 255
    'translucent.tif': (lambda: translucent(alpha=102), [20, 40, 80]),
    'cmyk.tif': (lambda: photo().convert('CMYK'), BGR),
    'ycbcr.tif': (lambda: photo().convert('YCbCr'), BGR),
    'palette.png': (palette, BGR),
    'palette.tif': (palette, BGR),
    'palette.gif': (palette, BGR),
}


@pytest.mark.parametrize('name', EXACT)
def test_eight_bits(tmp_path, name):
    make, expected = EXACT[name]
    img = load(save(tmp_path / name, make()))
    assert img.dtype == np.uint8 and img.shape == (*SIZE, 3)
    assert img[0, 0].tolist() == [0, 0, 0]
    assert (img.reshape(-1, 3)[1:] == expected).all()


def test_cmyk_jpeg(tmp_path):
    image = Image.new('CMYK', SIZE[::-1], (55, 155, 205, 0))
    img = load(save(tmp_path / 'cmyk.jpg', image, quality=100))
    assert abs(img.astype(int) - BGR).max() <= 2


def test_black_and_white(tmp_path):
    pixels = np.array([[1, 0, 1]], bool).repeat(3, axis=0)
    for name in ('one_bit.png', 'one_bit.tif'):
        img = load(save(tmp_path / name, Image.fromarray(pixels)))
        assert (img == 255 * pixels[..., None]).all()


@pytest.mark.parametrize('name', ['frames.gif', 'pages.tif'])
def test_the_first_of_several(tmp_path, name):
    others = [Image.new('RGB', SIZE[::-1], 'white')] * 2
    path = tmp_path / name
    photo().save(path, save_all=True, append_images=others)
    assert load(path)[1, 1].tolist() == list(BGR)


def test_float32_keeps_the_range_of_eight_bits(tmp_path):
    path = save(tmp_path / 'deep.png', filled(4095, np.uint16))
    img = load(path, bit_depth=12, to_float32=True)
    assert img.dtype == np.float32 and (img == 255).all()


@pytest.mark.parametrize(
    ('bit_depth', 'value', 'expected'),
    [
        (8, 200, 200),
        (10, 1023, 255),
        (12, 4095, 255),
        (12, 2048, 128),
        (12, 8, 0),
        (16, 65535, 255),
        (16, 4095, 16),
        (16, 257 * 100 + 128, 100),
        (16, 257 * 100 + 129, 101),
    ],
)
@pytest.mark.parametrize('name', ['deep.png', 'deep.tif'])
def test_more_than_eight_bits(tmp_path, name, bit_depth, value, expected):
    """The declared depth decides, not the values of an image."""
    grey = save(tmp_path / name, filled(value, np.uint16))
    assert (load(grey, bit_depth=bit_depth) == [expected] * 3).all()
    colour = filled(0, np.uint16, (3,))
    colour[..., 2] = value
    path = save(tmp_path / f'rgb_{name}', colour)
    assert (load(path, bit_depth=bit_depth) == [0, 0, expected]).all()


@pytest.mark.parametrize(
    ('bit_depth', 'value', 'cure'),
    [
        (None, 4095, 'set bit_depth=N in every LoadImageFromFile'),
        (None, 255, 'set bit_depth=N in every LoadImageFromFile'),
        (12, 4096, 'with bit_depth=12 they must be 0 to 4095'),
    ],
)
def test_values_of_an_undeclared_depth(tmp_path, bit_depth, value, cure):
    """They are no broken image that might be skipped."""
    path = save(tmp_path / 'deep.png', filled(value, np.uint16))
    with pytest.raises(ValueError, match=cure) as info:
        load(path, bit_depth=bit_depth, max_broken=5)
    assert f'{path} holds uint16 values from {value} to' in str(info.value)


@pytest.mark.parametrize('channels', [(), (3,)])
def test_floats(tmp_path, channels):
    path = save(tmp_path / 'f.tif', filled(0.5, np.float32, channels))
    assert (load(path) == 128).all()
    for value in (1.01, -0.01, np.nan):
        save(path, filled(value, np.float32, channels))
        with pytest.raises(ValueError, match='floats must be 0 to 1') as info:
            load(path)
        assert str(path) in str(info.value)


@pytest.mark.parametrize('channels', [(), (1,), (3,), (4,)])
@pytest.mark.parametrize(
    ('value', 'dtype', 'expected'),
    [
        (77, np.uint8, 77),
        (4095, np.uint16, 255),
        (4095, np.int64, 255),
        (0.5, np.float16, 128),
        (1.0, np.float64, 255),
    ],
)
def test_arrays(channels, value, dtype, expected):
    img = to_eight_bits(filled(value, dtype, channels), bit_depth=12)
    assert img.dtype == np.uint8 and img.shape == (*SIZE, 3)
    assert (img == expected).all()


@pytest.mark.parametrize(
    ('img', 'problem'),
    [
        (filled(-1, np.int16), 'from -1 to -1'),
        (filled(True, bool), 'bool values'),
        (filled(1, np.uint8, (2,)), 'has the shape'),
        (filled(1, np.uint8, (3, 1)), 'has the shape'),
        (np.zeros(5, np.uint8), 'has the shape'),
    ],
)
def test_what_is_no_image(img, problem):
    with pytest.raises(ValueError, match=problem):
        to_eight_bits(img, bit_depth=12)


@pytest.mark.parametrize(
    'option', [dict(bit_depth=7), dict(bit_depth=17), dict(color_type='bgr')]
)
def test_options(option):
    (name,) = option
    with pytest.raises(ValueError, match=f'{name}='):
        LoadImageFromFile(**option)


def rotated(path):
    """A photograph that its EXIF orientation turns by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(path, photo(), exif=exif)


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_size_of_the_annotations(tmp_path, suffix):
    """An image that EXIF turns away from its boxes is an error."""
    path = rotated(tmp_path / f'turned.{suffix}')
    for color_type, other, (height, width) in (
        ('color', 'color_ignore_orientation', SIZE[::-1]),
        ('color_ignore_orientation', 'color', SIZE),
    ):
        loader = LoadImageFromFile(color_type=color_type, max_broken=5)
        inputs = dict(img_path=str(path), height=height, width=width)
        assert loader(inputs)['img'].shape == (height, width, 3)
        with pytest.raises(ValueError, match='in the annotations') as info:
            loader(dict(img_path=str(path), height=width, width=height))
        message = str(info.value)
        assert f'{path} is {height} x {width} pixels' in message
        assert f'but {width} x {height} in the' in message
        assert f'set color_type={other!r}' in message
    with pytest.raises(ValueError, match='correct height') as info:
        loader(dict(img_path=str(path), height=7, width=7))
    assert 'EXIF' not in str(info.value)


@pytest.fixture(scope='module')
def make_inferencer(tmp_path_factory):
    """mmdet's own, on the demo's detector with random weights."""

    def make(**options):
        config = tmp_path_factory.mktemp('inferencer') / 'config.py'
        base = ROOT / 'configs/demo/maskrcnn_halvit_shapes.py'
        config.write_text(
            f'_base_ = {str(base)!r}\n'
            'pipeline = _base_.test_dataloader.dataset.pipeline\n'
            f'pipeline[0].update({options})\n'
            'test_dataloader = dict(dataset=dict(pipeline=pipeline))\n'
        )
        return DetInferencer(str(config), device='cpu', show_progress=False)

    return make


def given_to_model(inferencer, image):
    """What the model is given, (h, w, 3) in BGR before normalisation."""
    image = image if isinstance(image, np.ndarray) else str(image)
    ((_, data),) = inferencer.preprocess([image])
    (pixels,) = data['inputs']
    return pixels.permute(1, 2, 0).numpy()


def test_inferencer_reads_as_training_does(make_inferencer, tmp_path):
    inferencer = make_inferencer(bit_depth=12)
    exif = rotated(tmp_path / 'turned.png')
    for path, expected in {
        save(tmp_path / 'deep.png', filled(2048, np.uint16)): [128] * 3,
        save(tmp_path / 'grey.png', photo().convert('L')): [GREY] * 3,
        save(tmp_path / 'rgba.png', translucent()): BGR,
        save(tmp_path / 'cmyk.tif', photo().convert('CMYK')): BGR,
        exif: BGR,
    }.items():
        pixels = given_to_model(inferencer, path)
        # the demo's scale: 128 pixels on the longer side
        assert pixels.shape == ((128, 96, 3) if path == exif else (96, 128, 3))
        assert (pixels[48, 48] == expected).all(), path
    for array in (filled(2048, np.uint16), filled(0.5, np.float32, (1,))):
        assert (given_to_model(inferencer, array) == 128).all()
    (found,) = inferencer([str(exif)], no_save_vis=True)['predictions']
    assert len(found['scores']) == len(found['bboxes'])


def test_inferencer_refuses_what_training_does(make_inferencer, tmp_path):
    inferencer = make_inferencer()
    deep = filled(2048, np.uint16)
    for image in (save(tmp_path / 'deep.png', deep), deep):
        with pytest.raises(ValueError, match='not 8 bits'):
            given_to_model(inferencer, image)
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'')
    with pytest.raises(ValueError, match=f'cannot decode.*{broken}'):
        given_to_model(inferencer, broken)


def test_pipelines_of_mmdet_keep_its_loaders():
    init_default_scope('mmdet')
    array = filled(2048, np.uint16)
    for kind in ('LoadImageFromNDArray', 'InferencerLoader'):
        cfg = dict(type=f'mmdet.{kind}')
        host = TRANSFORMS.build(dict(cfg, to_float32=True))
        img = host(dict(img=array))['img']
        assert img.dtype == np.float32 and (img == 2048).all()
        ours = TRANSFORMS.build(dict(cfg, _scope_='halvit_mm'))
        with pytest.raises(ValueError, match='not 8 bits'):
            ours(dict(img=array))
