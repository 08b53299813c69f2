"""The demo's data: drawn from a seed, and annotated exactly."""

import contextlib
import io

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from halvit_mm.datasets.shapes import (
    CLASSES,
    draw_detection_split,
    draw_folder_split,
)

SIZE = 96


def content(root):
    """Every file of a folder: relative path -> bytes."""
    files = (path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def draw(kind, root, seed):
    if kind == 'detection':
        draw_detection_split(root, 'train', 4, size=SIZE, seed=seed)
    else:
        draw_folder_split(root, 'train', 4, seed=seed)
    return content(root)


@pytest.mark.parametrize('kind', ['detection', 'folder'])
def test_everything_follows_from_the_seed(kind, tmp_path):
    first, again, other = (
        draw(kind, tmp_path / name, seed)
        for name, seed in (('first', 7), ('again', 7), ('other', 8))
    )
    assert len(first) == (5 if kind == 'detection' else 4)
    assert first == again
    assert all(first[name] != other[name] for name in first)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """A hundred images: what was returned, and the file as COCO reads it."""
    root = tmp_path_factory.mktemp('drawn')
    returned = draw_detection_split(root, 'train', 100, size=SIZE, seed=0)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(root / 'annotations/train.json'))
    return root, returned, coco


def test_json_is_what_was_returned_and_names_every_image(drawn):
    root, returned, coco = drawn
    assert coco.dataset == returned
    names = {image['file_name'] for image in coco.imgs.values()}
    assert names == {path.name for path in (root / 'train').iterdir()}
    assert len(names) == 100
    assert [c['name'] for c in coco.cats.values()] == list(CLASSES)
    assert {a['category_id'] for a in coco.anns.values()} == set(coco.cats)


def test_areas_and_boxes_are_those_of_the_polygons(drawn):
    coco = drawn[2]
    for annotation in coco.anns.values():
        rle = coco.annToRLE(annotation)
        assert annotation['area'] == coco_mask.area(rle) > 0
        assert annotation['bbox'] == coco_mask.toBbox(rle).tolist()
        assert annotation['iscrowd'] == 0


def test_objects_lie_apart_and_inside(drawn):
    coco = drawn[2]
    for image_id in coco.imgs:
        annotations = coco.imgToAnns[image_id]
        masks = [coco.annToMask(a) for a in annotations]
        assert np.sum(masks, axis=0).max() <= 1
        for a in annotations:
            polygon = np.array(a['segmentation'][0])
            assert polygon.min() >= 0
            assert polygon.max() <= SIZE


def test_some_images_are_empty_and_none_is_crowded(drawn):
    counts = [len(drawn[2].imgToAnns[image_id]) for image_id in drawn[2].imgs]
    assert 0 < counts.count(0) < 20
    assert max(counts) == 4


def test_folders_hold_every_class_in_turn(tmp_path):
    draw_folder_split(tmp_path, 'train', 7, size=64, seed=0)
    dataset = CustomDataset(data_root=str(tmp_path), data_prefix='train')
    assert tuple(dataset.CLASSES) == CLASSES
    assert np.bincount(dataset.get_gt_labels()).tolist() == [3, 2, 2]
