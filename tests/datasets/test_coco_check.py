"""Annotations that are mended, alike for training and for evaluation."""

import json
import math
import re

import pytest
from pycocotools import mask as coco_mask

from halvit_mm.datasets import read_coco
from halvit_mm.datasets.coco_check.values import read_id

from .truth import (
    ANN_FILE,
    build,
    each,
    edit_json,
    objects,
    of_second_and_last,
    scores_of_truth,
    without,
)


def text_ids(content):
    for image in content['images']:
        image['id'] = f'img-{image["id"]}'
    for a in content['annotations']:
        a['image_id'] = f'img-{a["image_id"]}'


def category_text_ids(content):
    for category in content['categories']:
        category['id'] = str(category['id'])


def as_uncompressed(content):
    size = content['images'][0]['height'], content['images'][0]['width']
    for annotation in content['annotations']:
        (rle,) = coco_mask.frPyObjects(annotation['segmentation'], *size)
        flat = coco_mask.decode(rle).T.ravel().tolist()
        counts, value = [0], 0
        for pixel in flat:
            if pixel != value:
                counts.append(0)
                value = pixel
            counts[-1] += 1
        annotation['segmentation'] = dict(size=list(size), counts=counts)


def as_points(annotation):
    (flat,) = annotation['segmentation']
    return [list(pair) for pair in zip(flat[::2], flat[1::2])]


def with_root(content):
    for category in content['categories']:
        category['supercategory'] = 'shapes'
    extra = dict(id=0, name='shapes', supercategory='none')
    content['categories'].insert(0, extra)


def with_root_of_a_class(content):
    """The exporter's root where the project is called as its class."""
    for category in content['categories']:
        category['supercategory'] = 'shapes'
    extra = dict(id=7, name='shapes', supercategory='none')
    content['categories'].append(extra)


def other_categories(content):
    """Gaps in the ids, and another order of the file."""
    for category in content['categories']:
        category['id'] *= 10
    content['categories'].reverse()
    for annotation in content['annotations']:
        annotation['category_id'] *= 10


def backslashes(content):
    for image in content['images']:
        image['file_name'] = '..\\train\\' + image['file_name']


def twice(content):
    content['images'] += content['images'][:2]


MENDED = {
    'id 0': (each(id=lambda a: a['id'] - 1), 'numbered anew'),
    'all ids 0': (each(id=lambda a: 0), r'numbered anew \(\d+; ids 0, 0'),
    'no ids': (without('annotations', 'id'), 'numbered anew'),
    'ids as text': (each(id=lambda a: str(a['id'])), 'numbered anew'),
    'no iscrowd': (without('annotations', 'iscrowd'), 'iscrowd missing'),
    'iscrowd false': (each(iscrowd=lambda a: False), 'iscrowd missing or no'),
    'no area': (without('annotations', 'area'), 'areas that were missing'),
    'area 0': (each(area=lambda a: 0), 'areas that were missing or 0'),
    'area NaN': (each(area=lambda a: math.nan), 'areas that were missing'),
    'image_id as text': (
        each(image_id=lambda a: str(a['image_id'])),
        'image_id was no whole number',
    ),
    'image_id as float': (
        each(image_id=lambda a: float(a['image_id'])),
        'image_id was no whole number',
    ),
    'ids of images are names': (text_ids, 'ids of images that are no'),
    'category_id as text': (
        each(category_id=lambda a: str(a['category_id'])),
        'category_id was no whole number',
    ),
    'ids of categories as text': (category_text_ids, 'ids of categories'),
    'uncompressed run lengths': (as_uncompressed, 'masks that were uncompr'),
    'flat polygons': (
        each(segmentation=lambda a: a['segmentation'][0]),
        'flat lists',
    ),
    'lists of points': (each(segmentation=as_points), 'lists of points'),
    'a part of 4 numbers': (
        each(segmentation=lambda a: [*a['segmentation'], [1, 2, 3, 4]]),
        'partly no polygons',
    ),
    'no width and height': (
        without('images', 'width', 'height'),
        'width or height missing',
    ),
    'no boxes': (without('annotations', 'bbox'), 'computed from masks'),
    'boxes as text': (
        each(bbox=lambda a: [str(x) for x in a['bbox']]),
        None,
    ),
    "an exporter's root": (with_root, "left out the category 'shapes'"),
    'its root at the end': (with_root_of_a_class, 'left out the category'),
    'other categories': (other_categories, None),
    'backslashes': (backslashes, 'backslashes in file names'),
    'images twice': (twice, r'listed twice \(2; ids 1, 2\)'),
}


@pytest.mark.parametrize('name', MENDED)
def test_mended_for_training_and_evaluation(root, clean, name, tmp_path):
    change, line = MENDED[name]
    path = edit_json(root, change)
    assert objects(build(root)) == clean
    lines = read_coco(path).findings.lines()
    if line is not None:
        assert len(lines) == 1
        assert re.search(line, lines[0]), lines
    assert str(path) in ''.join(lines) or not lines
    scores = scores_of_truth(root, tmp_path)
    assert scores == {'bbox': (1.0, 1.0), 'segm': (1.0, 1.0)}


def box(*numbers):
    """A function that spoils the box of the second and the last object."""

    def apply(content):
        for index in (1, -1):
            content['annotations'][index]['bbox'] = list(numbers)

    return apply


DROPPED = {
    'NaN': box(math.nan, 1, 5, 5),
    'infinite': box(1, 1, math.inf, 5),
    'no width': box(3, 3, 0, 9),
    'negative': box(30, 30, -9, 9),
    'less than a pixel': box(30, 30, 0.5, 9),
    'outside': box(900, 900, 20, 20),
    'missing': of_second_and_last(bbox=None, segmentation=None),
    'of 400 digits': box(10**400, 1, 5, 5),
    'of five numbers': box(1, 2, 3, 4, 5),
    'unknown category': of_second_and_last(category_id=99),
    'unknown image': of_second_and_last(image_id=99),
}


@pytest.mark.parametrize('name', DROPPED)
def test_left_out_of_training_and_evaluation(root, clean, name, tmp_path):
    annotations = json.loads((root / ANN_FILE).read_text())['annotations']
    ids = [annotations[1]['id'], annotations[-1]['id']]
    total = len(annotations)
    path = edit_json(root, DROPPED[name])
    found = objects(build(root))
    assert sum(map(len, found)) == total - 2
    for here, there in zip(found, clean):
        assert all(x in there for x in here)
    (line,) = (x for x in read_coco(path).findings.lines() if 'left' in x)
    assert f'(2; ids {ids[0]}, {ids[1]})' in line
    scores = scores_of_truth(root, tmp_path)
    assert scores == {'bbox': (1.0, 1.0), 'segm': (1.0, 1.0)}


def test_an_id_longer_than_any_number_is_text():
    """Python makes no number of it."""
    assert read_id('9' * 5000) == '9' * 5000


def test_what_is_ignored_is_a_crowd(root, tmp_path):
    """The host leaves it out of training, and evaluators count it."""
    path = edit_json(root, of_second_and_last(ignore=1))
    flags = [flag for image in objects(build(root)) for *_, flag in image]
    assert sum(flags) == 2
    (line,) = read_coco(path).findings.lines()
    assert '"ignore" is now iscrowd=1 (2;' in line
    scores = scores_of_truth(root, tmp_path, ('bbox',))
    assert scores == {'bbox': (1.0, 1.0)}
