"""Annotations against the image files, and the tool that checks and fixes."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from halvit_mm.datasets import DataError, read_coco
from halvit_mm.datasets.coco_check import fix_images, write_coco
from halvit_mm.datasets.coco_check.images import (
    Header,
    is_readable,
    read_header,
)

from .truth import ANN_FILE, build, edit_json, objects, without

TOOL = Path(__file__).parents[2] / 'tools/dataset_converters/check_dataset.py'


@pytest.fixture
def root(root, drawn):
    """With images of its own."""
    (root / 'train').unlink()
    shutil.copytree(drawn / 'train', root / 'train')
    return root


def to_upper(root):
    path = root / 'train/000002.png'
    path.rename(path.with_name('000002.PNG'))


def to_subfolder(root):
    (root / 'train/sub').mkdir()
    for path in (root / 'train').glob('*.png'):
        path.rename(path.parent / 'sub' / path.name)


def to_two_folders(root):
    path = root / 'train/000002.png'
    for name in 'ab':
        (root / 'train' / name).mkdir()
        shutil.copy(path, root / 'train' / name / path.name)
    path.unlink()


def with_folder_in_names(root):
    def apply(content):
        for image in content['images']:
            image['file_name'] = f'export/{image["file_name"]}'

    edit_json(root, apply)


def leaving(root):
    (root / 'train/000001.png').rename(root / '000001.png')

    def apply(content):
        content['images'][0]['file_name'] = '../000001.png'

    edit_json(root, apply)


def remove(*numbers):
    def apply(root):
        for number in numbers:
            (root / f'train/{number:06d}.png').unlink()

    return apply


MISSING = {
    'one': (remove(2), '1 of 6 images are not in .*000002.png; copy them, or'),
    'all': (remove(*range(1, 7)), r'6 of 6 .* `--cfg-options data_root=...`'),
    'other case': (to_upper, "'000002.PNG' is there .upper and lower case"),
    'subfolder': (to_subfolder, '000001.png is in .*/train/sub: set data_p'),
    'two of a name': (
        to_two_folders,
        'several files are called 000002.png: .*; write their folders into',
    ),
    'a folder too much': (
        with_folder_in_names,
        "'000001.png' is there: tools/dataset_converters/check_dataset.py A",
    ),
    'outside': (leaving, r'1 file names leave the folder .*: \.\./000001.png'),
}


@pytest.mark.parametrize('name', MISSING)
def test_missing_images_have_their_own_cure(root, name):
    change, message = MISSING[name]
    change(root)
    with pytest.raises(DataError, match=message) as info:
        build(root)
    assert str(root / ANN_FILE) in str(info.value)


def wide(root, orientation=None, size=(96, 64)):
    """Make the first image wide, turned by EXIF if asked; set its size."""
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    path = root / 'train/000001.png'
    Image.open(path).crop((0, 0, 96, 64)).save(path, exif=exif)

    def apply(content):
        image = content['images'][0]
        image['width'], image['height'] = size

    edit_json(root, apply)
    return path


@pytest.mark.parametrize(
    ('orientation', 'size', 'cure'),
    [
        (None, (64, 96), 'annotated as 64 x 96 .*: exchange them'),
        (None, (48, 32), 'is 96 x 64, annotated as 48 x 32 .*another image'),
        (6, (96, 64), 'is 64 x 96.*EXIF orientation. Set color_type='),
    ],
    ids=['exchanged', 'smaller', 'turned'],
)
def test_other_sizes(root, orientation, size, cure):
    path = wide(root, orientation, size)
    with pytest.raises(DataError, match=cure) as info:
        build(root)
    assert str(path) in str(info.value)


def test_a_turned_image_with_annotations_of_the_turned_one(root):
    wide(root, 6, (64, 96))
    assert build(root).get_data_info(0)['width'] == 64


# PyTorch alone would take longer to import than most files to check.
CODE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    assert not {'torch', 'mmengine'} & sys.modules.keys()
"""


def run(*args, **env):
    return subprocess.run(
        [sys.executable, '-c', CODE, TOOL, *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )


def test_the_tool_fixes_into_a_new_file(root, clean, check):
    def apply(content):
        without('annotations', 'id', 'area')(content)
        content['categories'][0]['name'] = 'çircle'
        content['images'][1].update(width=50, height=96)

    path = edit_json(root, apply)
    text = path.read_text()
    remove(1)(root)
    to_upper(root)
    Image.open(root / 'train/000002.PNG').crop((0, 0, 96, 50)).save(
        root / 'train/000002.PNG'
    )
    (root / 'train/000003.png').write_bytes(b'no image')
    out = root / 'annotations/fixed.json'
    # a locale of ASCII, as on many servers
    plain = dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
    code, _ = check(path, root / 'train')
    assert re.search('^error: .* cannot be used:', code)
    result = run(path, root / 'train', '--fix', out, **plain)
    assert result.returncode == 0, result.stderr
    for line in (
        'file names as the folder has them (1; ids 2)',
        'width and height exchanged (1; ids 2)',
        'left out images that are missing or cannot be read (2; ids 1, 3)',
        r'\xe7ircle',
        f'written to {out}',
    ):
        assert line in result.stdout
    assert path.read_text() == text
    fixed = json.loads(out.read_text(encoding='utf-8'))
    assert fixed['categories'][0]['name'] == 'çircle'
    out.replace(path)
    found = objects(build(root, ('çircle', 'square', 'triangle')))
    assert found[1:] == clean[3:]
    assert check(path, root / 'train', '--decode')[0] == 0
    code, _ = check(path, root / 'train', '--fix', path)
    assert 'is the file that is read' in code


@pytest.fixture
def check(monkeypatch, capsys):
    """Run the tool in this process; returns how it ends and its output."""

    def call(*args):
        monkeypatch.setattr(sys, 'argv', list(map(str, [TOOL, *args])))
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as end:
            return end.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return call


def test_cut_images_are_told_before_the_first_one_is_loaded(root):
    path = root / 'train/000002.png'
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match='000002.png cannot be read.*--fix'):
        build(root, test_mode=True)
    build(root)
    (line,) = read_coco(root / ANN_FILE).findings.lines()
    assert '1 image files cannot be read: ids 2' in line


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.bmp'])
def test_files_that_go_on_behind_their_end(tmp_path, name):
    """Whole, though the end is not in the last bytes; cut, it is nowhere."""
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    header = Header((64, 64), is_deep=False, has_end=True)
    for added, is_in_place in ((0, True), (100, True), (5000, False)):
        path.write_bytes(data + bytes(added))
        ended = header._replace(has_end=is_in_place or name == 'a.bmp')
        assert read_header(path) == ended
        assert is_readable(path, ended, decode=False)
    path.write_bytes(data[:-60])
    cut = header._replace(has_end=name == 'a.bmp')
    assert read_header(path) == cut
    assert is_readable(path, cut, decode=False) == cut.has_end
    assert not is_readable(path, cut, decode=True)


@pytest.mark.parametrize(
    ('name', 'dtype', 'channels'),
    [
        ('a.png', np.uint16, 1),
        ('a.png', np.uint16, 3),
        ('a.tif', np.uint16, 1),
        ('a.tif', np.uint16, 3),
        ('a.tif', np.float32, 1),  # 0 to 1, or an error of its own
        ('a.png', np.uint8, 3),
        ('a.webp', np.uint8, 3),
    ],
)
def test_the_header_tells_the_depth(tmp_path, name, dtype, channels):
    path = tmp_path / name
    cv2.imwrite(str(path), np.ones((8, 8, channels), dtype))
    assert read_header(path).is_deep == (dtype == np.uint16)


@pytest.mark.parametrize('test_mode', [False, True])
def test_deep_images_need_their_depth(root, check, test_mode):
    path = str(root / 'train/000002.png')
    cv2.imwrite(path, np.uint16(cv2.imread(path)) * 16)
    message = r'1 images have more than 8 bits \(ids 2\): .*set bit_depth=N'
    with pytest.raises(DataError, match=message):
        build(root, test_mode=test_mode)
    assert len(build(root, test_mode=test_mode, bit_depth=12)) == 6
    code, _ = check(root / ANN_FILE, root / 'train')
    assert re.search(message, code)


def test_decoding_finds_broken_pixels(root, check):
    path = root / 'train/000002.png'
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    data = root / ANN_FILE, root / 'train'
    code, output = check(*data)
    assert code == 0 and 'cannot be read' not in output
    code, output = check(*data, '--decode')
    assert '1 image files cannot be read: ids 2' in output
    assert 'evaluation ends at an image that cannot be read' in code
    out = root / 'fixed.json'
    assert check(*data, '--decode', '--fix', out)[0] == 0
    left = [image['id'] for image in json.loads(out.read_text())['images']]
    assert left == [1, 3, 4, 5, 6]


def test_nothing_is_written_where_no_image_is_left(root, tmp_path, check):
    out = root / 'fixed.json'
    (tmp_path / 'empty').mkdir()
    code, _ = check(root / ANN_FILE, tmp_path / 'empty', '--fix', out)
    assert 'no object' in code and not out.exists()


def names(function):
    def apply(content):
        for image in content['images']:
            image['file_name'] = function(image['file_name'])

    return apply


def accents(name):
    return f'é{name}'


NAMES = {
    'addresses': lambda name: f'https://host/a%20b/{name}?w=3',
    'folders of a server': lambda name: f'/data/upload/1/{name}',
    'a number of the project': lambda name: f'images\\1/{name}',
    'another ending': lambda name: name.replace('.png', '.jpg'),
    'no ending': lambda name: name.replace('.png', ''),
    'spaces': lambda name: f'{name} ',
    'accents': accents,
}


@pytest.mark.parametrize('name', NAMES)
def test_names_are_fixed(root, clean, name):
    if name == 'accents':  # as some systems store them
        for image in list((root / 'train').iterdir()):
            there = unicodedata.normalize('NFD', accents(image.name))
            image.rename(image.with_name(there))
    (root / 'train/000001.json').write_text('what a tool left there')
    path = edit_json(root, names(NAMES[name]))
    reason = 'accents are stored otherwise' if name == 'accents' else ''
    message = rf'6 of 6 images .* is there.*{reason}.*check_dataset.py'
    with pytest.raises(DataError, match=message):
        build(root)
    file = read_coco(path)
    fix_images(file, str(root / 'train'))
    write_coco(file, root / 'fixed.json')
    (root / 'fixed.json').replace(path)
    assert objects(build(root)) == clean
