"""Annotations that are refused, with the cure, or warned of."""

import json
import re

import pytest

from halvit_mm.datasets import DataError, read_coco
from halvit_mm.datasets.coco_check import reading
from halvit_mm.datasets.shapes import CLASSES

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


def normalised(a):
    return [x / 96 for x in a['bbox']]


def corners(a):
    x, y, w, h = a['bbox']
    return [x, y, x + w, y + h]


def same_id(content):
    content['images'][3]['id'] = content['images'][2]['id']


def no_image_ids(content):
    del content['images'][1]['id']


def other_ids(content):
    for annotation in content['annotations']:
        annotation['image_id'] += 1000


def unnamed(content):
    del content['categories'][1]['name']


def same_names(content):
    content['categories'][1]['name'] = content['categories'][2]['name']


def rle_of_other_size(content):
    rle = dict(size=[10, 20], counts=[200])
    content['annotations'][2]['segmentation'] = rle


def panoptic(content):
    content['annotations'] = [
        dict(image_id=i['id'], file_name='1.png', segments_info=[dict(id=1)])
        for i in content['images']
    ]


def captions(content):
    del content['categories']
    content['annotations'] = [dict(id=1, image_id=1, caption='A circle.')]


def keypoints(content):
    each(keypoints=lambda a: [5, 5, 2], num_keypoints=lambda a: 1)(content)


def keypoints_alone(content):
    keypoints(content)
    without('annotations', 'bbox', 'segmentation')(content)


def emptied(name):
    def apply(content):
        content[name] = []

    return apply


REFUSED = {
    'a list': (lambda c: c['annotations'], 'it holds a list, as a file of re'),
    'no images': (emptied('images'), 'it has no "images", but'),
    'no categories': (emptied('categories'), 'it has no "categories"'),
    'no objects': (emptied('annotations'), 'no object to train on'),
    'all crowds': (
        each(iscrowd=lambda a: 1),
        'all 16 objects are crowds.*set iscrowd=0',
    ),
    'normalised boxes': (
        each(bbox=normalised),
        'look normalised: 16 of 16 .* COCO counts in pixels',
    ),
    'corners': (
        each(bbox=corners),
        'look like corners x1, y1, x2, y2.*COCO has x, y, width, height',
    ),
    'no box at all': (each(bbox=lambda a: [1, 1, 0, 0]), 'none of the 16 box'),
    'two images of an id': (
        same_id,
        "id 3 belongs to two images, '000003.png' and '000004.png'",
    ),
    'an image without id': (no_image_ids, '1 of 6 images have no id'),
    'other image ids': (
        other_ids,
        'no image_id of the annotations exists: they are 1001.*has 1, 2',
    ),
    'a class without name': (unnamed, 'classes without a name: .*None'),
    'two classes of a name': (same_names, 'categories are called triangle'),
    'run lengths of another size': (
        rle_of_other_size,
        r'1 masks \(RLE\).*annotation 3 has \[10, 20\], the image \[96, 96',
    ),
    'no masks': (
        without('annotations', 'segmentation'),
        'all|16 of 16 objects have a box but no mask.*fasterrcnn_halvit_t',
    ),
    'some empty masks': (
        of_second_and_last(segmentation=[]),
        r'2 of 16 objects have .* \(annotation ids 2, 16\): for boxes only',
    ),
    'a line for a mask': (
        of_second_and_last(segmentation=[[1, 2, 3, 4]]),
        '2 of 16 objects have a box but no mask',
    ),
    'panoptic segmentation': (
        panoptic,
        'it is of panoptic .*: take the file of instances, .* or write one by',
    ),
    'captions': (captions, 'it has captions .*: take the file of instances'),
    'keypoints alone': (
        keypoints_alone,
        'have keypoints, but neither boxes nor masks: add "bbox", .x, y, w',
    ),
    'no file names': (without('images', 'file_name'), '6 images have no file'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused_with_path_and_cure(root, name):
    change, message = REFUSED[name]
    path = edit_json(root, change)
    with pytest.raises(DataError, match=message) as info:
        build(root)
    assert str(path) in str(info.value)


def test_boxes_alone_will_do_without_masks(root, clean, tmp_path):
    edit_json(root, without('annotations', 'segmentation'))
    assert objects(build(root, with_mask=False)) == clean
    scores = scores_of_truth(root, tmp_path, ('bbox',))
    assert scores == {'bbox': (1.0, 1.0)}
    with pytest.raises(DataError, match='16 of 16 objects have a box but no'):
        scores_of_truth(root, tmp_path)


@pytest.mark.parametrize(
    ('spoil', 'problem'),
    [
        (lambda data: data[: len(data) // 2], 'no whole JSON file'),
        (lambda data: b'', 'no whole JSON file'),
        (lambda data: b'[' * 100_000, 'no whole JSON file'),
        (lambda data: b'{"images": "x", "categories": [1]}', 'no list of obj'),
    ],
    ids=['cut', 'empty', 'deep', 'other types'],
)
def test_no_annotation_file(root, spoil, problem):
    path = root / ANN_FILE
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=problem) as info:
        build(root)
    assert str(path) in str(info.value)


def test_a_byte_order_mark(root, clean):
    path = root / ANN_FILE
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert objects(build(root)) == clean


@pytest.mark.parametrize(
    ('change', 'line'),
    [
        (
            lambda c: c['categories'].append(dict(id=9, name='star')),
            '1 classes have no object: star',
        ),
        (
            lambda c: c['images'][1].update(file_name='000001.png'),
            '1 file names belong to several images',
        ),
        (
            lambda c: c['annotations'][0].update(bbox=[60, 60, 50, 50]),
            r'1 boxes reach over the border .* annotation ids 1',
        ),
        (
            lambda c: c['annotations'][0].update(bbox=[1, 1, 9, 9]),
            r'1 of 16 masks looked at lie elsewhere than their boxes.* 1$',
        ),
        (keypoints, 'it is a file of keypoints: 16 objects have some, which'),
    ],
    ids=[
        'a class without objects',
        'one file twice',
        'border',
        'elsewhere',
        'keypoints',
    ],
)
def test_warned_of(root, change, line):
    def apply(content):
        change(content)

    path = edit_json(root, apply)
    build(root)
    found = read_coco(path).findings.lines()
    assert any(re.search(line, x) for x in found), found


def test_all_filtered_out(root):
    with pytest.raises(DataError, match='leaves none of its 6 images: relax'):
        build(root, filter_cfg=dict(min_size=500))


@pytest.mark.parametrize('filter_empty_gt', [False, True])
def test_no_object_of_the_classes(root, filter_empty_gt):
    def without_circles(content):
        content['annotations'] = [
            a for a in content['annotations'] if a['category_id'] > 1
        ]

    edit_json(root, without_circles)
    kwargs = dict(filter_cfg=dict(filter_empty_gt=filter_empty_gt))
    message = 'no object of the classes|leaves none of its 6 images'
    with pytest.raises(DataError, match=message):
        build(root, classes=CLASSES[:1], **kwargs)
    assert len(build(root, classes=CLASSES[:1], test_mode=True)) == 6


def test_read_once(root, monkeypatch, tmp_path):
    calls, parse = [], reading._parse
    monkeypatch.setattr(
        reading, '_parse', lambda *args: calls.append(args) or parse(*args)
    )
    build(root)
    build(root)
    scores_of_truth(root, tmp_path)
    assert len(calls) == 1
    edit_json(root, each(area=lambda a: 0))  # a change is seen
    build(root)
    assert len(calls) == 2


def test_evaluation_leaves_the_shared_content_alone(root, tmp_path):
    path = root / ANN_FILE
    before = json.dumps(read_coco(path).content)
    scores_of_truth(root, tmp_path)
    assert json.dumps(read_coco(path).content) == before


def test_the_start_line(root):
    line = read_coco(root / ANN_FILE).describe()
    counts = {name: 0 for name in CLASSES}
    for a in json.loads((root / ANN_FILE).read_text())['annotations']:
        counts[CLASSES[a['category_id'] - 1]] += 1
    classes = ', '.join(f'{k} {n}' for k, n in counts.items())
    assert line.endswith(
        f'6 images (0 without objects), 16 objects, 0 crowds, 3 classes: '
        f'{classes}'
    )
