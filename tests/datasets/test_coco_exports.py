"""What exporters write otherwise than COCO: mended, warned of or refused."""

import gzip
import json
import math
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from halvit_mm.datasets import DataError, read_coco
from halvit_mm.datasets.coco_check import write_coco
from halvit_mm.datasets.coco_check.outlines import _total

from .truth import (
    ANN_FILE,
    build,
    each,
    edit_json,
    objects,
    scores_of_truth,
)

SIZE = [96, 96]
PERFECT = {'bbox': (1.0, 1.0), 'segm': (1.0, 1.0)}


def shift_ids(kind, reference, by):
    def apply(content):
        for item in content[kind]:
            item['id'] += by
        for annotation in content['annotations']:
            annotation[reference] += by

    return apply


def rle(annotation, **changes):
    """Compressed run lengths of a polygon."""
    (found,) = coco_mask.frPyObjects(annotation['segmentation'], *SIZE)
    return dict(size=SIZE, counts=found['counts'].decode()) | changes


def masks(function):
    """A function that writes the mask of every annotation in another way."""
    return each(segmentation=function)


def corners(annotation):
    (flat,) = annotation['segmentation']
    return list(zip(flat[::2], flat[1::2]))


def as_python_bytes(annotation):
    found = rle(annotation)
    return dict(found, counts=str(found['counts'].encode()))


def by_id(content):
    """A table, id -> object, as of a well-known data set of cells."""
    found = content['annotations']
    content['annotations'] = {str(a['id']): a for a in found}


def lists_of_parents(content):
    for category in content['categories']:
        category['supercategory'] = ['shape'] if category['id'] > 1 else {}


def box_object(a, names=('x', 'y', 'width', 'height')):
    return dict(zip(names, a['bbox']))


MASKS = r'masks that were .*text or partly no polygons \(16;'
MENDED = {
    'negative ids of images': (
        shift_ids('images', 'image_id', -4),
        'ids of images that are no whole numbers from 0',
    ),
    'ids of images above 2^53': (
        shift_ids('images', 'image_id', 2**53),
        'ids of images that are no whole numbers from 0 to 2.53',
    ),
    'ids of images above 2^64': (
        shift_ids('images', 'image_id', 2**64),
        'ids of images that are no whole numbers from 0 to 2.53',
    ),
    'ids of categories above 2^53': (
        shift_ids('categories', 'category_id', 2**53),
        'ids of categories that are no whole numbers from 0 to 2.53',
    ),
    'annotation ids above 2^64': (
        each(id=lambda a: a['id'] + 2**64),
        'annotation ids .*too large .*numbered anew',
    ),
    'category ids from 0': (
        shift_ids('categories', 'category_id', -1),
        None,
    ),
    'a table of annotations': (by_id, None),
    'lists of parents': (lists_of_parents, None),
    'ignore as text': (each(ignore=lambda a: 'false'), None),
    'boxes as lines of text': (each(bbox=lambda a: str(a['bbox'])), None),
    'boxes as objects': (each(bbox=box_object), None),
    'boxes as objects of one letter': (
        each(bbox=lambda a: box_object(a, 'xywh')),
        None,
    ),
    'boxes in lists': (each(bbox=lambda a: [a['bbox']]), None),
    'boxes of null': (each(bbox=lambda a: None), 'boxes computed from masks'),
    'empty boxes': (each(bbox=lambda a: []), 'boxes computed from masks'),
    'masks as text': (masks(lambda a: json.dumps(a['segmentation'])), MASKS),
    'numbers as text': (
        masks(lambda a: [[str(x) for x in p] for p in a['segmentation']]),
        MASKS,
    ),
    'points as objects': (
        masks(lambda a: [dict(x=x, y=y) for x, y in corners(a)]),
        MASKS,
    ),
    'a list of lists of points': (masks(lambda a: [corners(a)]), MASKS),
    'polygons one deeper': (masks(lambda a: [a['segmentation']]), MASKS),
    'run lengths': (masks(rle), None),
    'run lengths in a list': (masks(lambda a: [rle(a)]), MASKS),
    'run lengths as bytes of Python': (masks(as_python_bytes), MASKS),
    'run lengths with a size of text': (
        masks(lambda a: rle(a, size=['96', '96'])),
        MASKS,
    ),
    'run lengths with a size of floats': (
        masks(lambda a: rle(a, size=[96.0, 96.0])),
        None,
    ),
    'run lengths without size': (masks(lambda a: rle(a, size=None)), MASKS),
}


@pytest.mark.parametrize('name', MENDED)
def test_mended(root, clean, name, tmp_path):
    change, line = MENDED[name]
    path = edit_json(root, change)
    assert objects(build(root)) == clean
    lines = read_coco(path).findings.lines()
    assert len(lines) == (line is not None), lines
    assert line is None or re.search(line, lines[0]), lines
    assert scores_of_truth(root, tmp_path) == PERFECT


def test_class_names_that_are_numbers(root, clean, tmp_path):
    def apply(content):
        for category in content['categories']:
            category['name'] = category['id']

    edit_json(root, apply)
    classes = ('1', '2', '3')
    assert objects(build(root, classes)) == clean
    assert scores_of_truth(root, tmp_path, classes=classes) == PERFECT


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-be', 'utf-32'])
def test_other_encodings(root, clean, encoding):
    path = root / ANN_FILE
    path.write_bytes(path.read_text().encode(encoding))
    assert objects(build(root)) == clean


def part(**changes):
    """A function that spoils the first mask."""

    def apply(content):
        annotation = content['annotations'][0]
        for name, value in changes.items():
            annotation[name] = value(annotation)

    return apply


def line_of(annotation):
    x, y, w, h = annotation['bbox']
    return [[x, y, x + w / 2, y + h / 2, x + w, y + h]]


def twice(content):
    content['annotations'] += [
        dict(a, id=a['id'] + 50) for a in content['annotations'][:2]
    ]


def renamed(name):
    def apply(content):
        content['categories'].append(dict(id=9, name=name))
        content['annotations'][0]['category_id'] = 9

    return apply


def counts(text):
    return part(segmentation=lambda a: rle(a, counts=text))


WARNED = {
    'objects twice': (
        twice,
        '2 objects have the class and box of another .*annotation ids 51, 52',
    ),
    'classes of other case': (renamed('Circle'), 'differ only by .*: circle'),
    'classes with spaces': (renamed('circle '), 'differ only by .*: circle'),
    'a line for a mask': (
        part(segmentation=line_of),
        '1 masks cover no pixel.*annotation ids 1',
    ),
    'a line without area': (
        part(segmentation=line_of, area=lambda a: 0),
        '1 masks cover no pixel.*annotation ids 1',
    ),
    'run lengths of nothing': (
        part(segmentation=lambda a: dict(size=SIZE, counts=[96 * 96])),
        '1 masks cover no pixel.*annotation ids 1',
    ),
}


@pytest.mark.parametrize('name', WARNED)
def test_warned_of(root, name):
    change, line = WARNED[name]
    path = edit_json(root, change)
    build(root)
    lines = read_coco(path).findings.lines()
    assert any(re.search(line, x) for x in lines), lines


def strings(content):
    content['categories'] = [c['name'] for c in content['categories']]


def without_list(content):
    content['annotations'] = None


FAR = 'annotation ids 1.: for boxes only'
CUT = r'1 masks \(RLE\) are cut or no run lengths: annotation ids 1;'
REFUSED = {
    'a coordinate of 1e12': (
        part(segmentation=lambda a: [[1, 1, 1e12, 5, 9, 9]]),
        FAR,
    ),
    'null in a polygon': (
        part(segmentation=lambda a: [[1, 1, 5, None, 9, 9]]),
        FAR,
    ),
    'no run lengths': (counts('hello world'), CUT),
    'no characters': (counts(''), CUT),
    'a cut number': (counts('PPP'), CUT),
    'cut run lengths': (part(segmentation=lambda a: cut(rle(a))), CUT),
    'too few run lengths': (counts([100, 20]), CUT),
    'normalised masks': (
        masks(lambda a: [[x / 96 for x in p] for p in a['segmentation']]),
        '16 of 16 masks looked at lie elsewhere.*count in pixels',
    ),
    'class names alone': (
        strings,
        r'"categories" is no list of objects, such as {"id": 1, "name"',
    ),
    'null for annotations': (without_list, 'no object to train on'),
}


def cut(mask):
    return dict(mask, counts=mask['counts'][:-3])


@pytest.mark.parametrize('name', REFUSED)
def test_refused(root, name):
    change, message = REFUSED[name]
    path = edit_json(root, change)
    with pytest.raises(DataError, match=message) as info:
        build(root)
    assert str(path) in str(info.value)


def test_a_compressed_file(root):
    path = root / ANN_FILE
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match='it is compressed.*unpack it'):
        build(root)


def test_run_lengths_add_up_as_in_pycocotools():
    rng = np.random.default_rng(0)
    for share in (0, 0.001, 0.1, 0.5, 1):
        mask = np.asfortranarray(rng.random((37, 211)) < share, np.uint8)
        assert _total(coco_mask.encode(mask)['counts'].decode()) == 37 * 211


def test_a_file_without_info(root):
    """Which some versions of pycocotools copy into results."""
    path = edit_json(root, lambda content: content.pop('info') and None)
    assert read_coco(path).content['info'] == {}


def test_numbers_that_are_none_are_left_out_of_a_fixed_file(root):
    path = edit_json(
        root, lambda content: content.update(info=dict(version=math.nan))
    )
    write_coco(read_coco(path), root / 'fixed.json')
    fixed = json.loads((root / 'fixed.json').read_text())
    assert fixed['info'] == dict(version=None)
