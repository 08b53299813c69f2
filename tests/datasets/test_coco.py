"""COCO data: complaints before the first step, broken images, empty ones."""

import json
import shutil

import pytest

from halvit_mm.datasets import DataError
from halvit_mm.datasets.shapes import CLASSES, draw_detection_split

from .truth import ANN_FILE, build, edit_json, objects

NUM_IMAGES = 6


@pytest.fixture
def root(tmp_path):
    draw_detection_split(tmp_path, 'train', NUM_IMAGES, size=64, seed=0)
    return tmp_path


def paths(dataset):
    """The image that each index really gives."""
    samples = (dataset[i]['data_samples'] for i in range(len(dataset)))
    return [sample.img_path for sample in samples]


def test_good_data_load(root):
    dataset = build(root)
    assert len(dataset) == NUM_IMAGES
    truth = json.loads((root / ANN_FILE).read_text())
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 64, 64)
    labels = sample['data_samples'].gt_instances.labels.tolist()
    own = [a for a in truth['annotations'] if a['image_id'] == 1]
    assert labels == [a['category_id'] - 1 for a in own]


def test_some_of_the_classes_will_do(root):
    dataset = build(root, (CLASSES[0], CLASSES[2]))
    labels = {1: 0, 3: 1}  # category of the JSON -> label
    truth = json.loads((root / ANN_FILE).read_text())['annotations']
    found = [
        label for i in range(len(dataset)) for label in dataset.get_cat_ids(i)
    ]
    assert set(found) == {0, 1}
    categories = [a['category_id'] for a in truth]
    assert found == [labels[c] for c in categories if c in labels]


def test_unknown_classes_name_both_lists(root):
    classes = ('circle', 'sqare')
    with pytest.raises(
        ValueError, match=r"has no classes \['sqare'\]"
    ) as info:
        build(root, classes)
    message = str(info.value)
    assert str(list(classes)) in message
    assert str(list(CLASSES)) in message
    assert 'classes=auto' in message


def test_classes_in_another_order_are_found_by_name(root, log):
    turned = objects(build(root, CLASSES[::-1]))
    assert 'in another order' in log.text
    labels = [x[1] for image in objects(build(root)) for x in image]
    assert [2 - x[1] for image in turned for x in image] == labels


@pytest.mark.parametrize(
    ('missing', 'problem'),
    [
        (ANN_FILE, 'no annotation file'),
        ('train', 'no image folder'),
    ],
)
def test_missing_file_is_named_with_the_cure(root, missing, problem):
    path = root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=problem) as info:
        build(root)
    assert str(path) in str(info.value)
    assert 'data_root=' in str(info.value)


@pytest.fixture(params=[b'no picture', b''], ids=['garbage', 'empty file'])
def break_images(root, request):
    """A function that spoils images by number and returns their paths."""

    def apply(*numbers):
        spoilt = [root / f'train/{number:06d}.png' for number in numbers]
        for path in spoilt:
            path.write_bytes(request.param)
        return list(map(str, spoilt))

    return apply


def test_broken_image_is_skipped_in_training(root, break_images, log):
    (broken,) = break_images(2)
    dataset = build(root, max_broken=1)
    for _ in range(2):  # met again it is still one broken image
        found = paths(dataset)
        assert len(found) == NUM_IMAGES
        assert broken not in found
    assert f'cannot decode {broken}' in log.text
    assert '1 of at most 1' in log.text


def test_too_many_broken_images_are_an_error(root, break_images):
    broken = break_images(2, 4)
    with pytest.raises(ValueError, match='1 may be skipped') as info:
        paths(build(root, max_broken=1))
    assert all(path in str(info.value) for path in broken)


def test_broken_image_is_an_error_in_evaluation(root, break_images):
    dataset = build(root, test_mode=True)
    (broken,) = break_images(2)
    assert dataset[0]['data_samples'].img_path.endswith('000001.png')
    with pytest.raises(ValueError, match='cannot decode') as info:
        dataset[1]
    assert broken in str(info.value)


def test_broken_image_is_refused_before_an_evaluation(root, break_images):
    """And not after the first epoch, when the evaluation comes to it."""
    break_images(2)
    with pytest.raises(DataError, match='000002.png cannot be read.*--fix'):
        build(root, test_mode=True)


def test_missing_image_is_never_skipped(root):
    dataset = build(root, max_broken=5)
    (root / 'train/000002.png').unlink()
    with pytest.raises(FileNotFoundError, match='000002.png'):
        paths(dataset)


@pytest.mark.parametrize('filter_empty_gt', [False, True])
def test_images_without_objects(root, filter_empty_gt, log):
    def empty_first_image(content):
        content['annotations'] = [
            a for a in content['annotations'] if a['image_id'] != 1
        ]

    edit_json(root, empty_first_image)
    dataset = build(root, filter_cfg=dict(filter_empty_gt=filter_empty_gt))
    said = '1 of 6 images are not trained on, as filter_cfg=' in log.text
    assert said == filter_empty_gt
    found = [path.endswith('000001.png') for path in paths(dataset)]
    assert len(found) == NUM_IMAGES - filter_empty_gt
    assert any(found) == (not filter_empty_gt)
    if not filter_empty_gt:
        instances = dataset[0]['data_samples'].gt_instances
        assert instances.bboxes.shape == (0, 4)
        assert len(instances.masks) == 0


def test_a_colour_for_each_class(root):
    def more_classes(content):
        for i in range(4, 201):
            content['categories'].append(dict(id=i, name=f'class {i}'))

    edit_json(root, more_classes)
    classes = CLASSES + tuple(f'class {i}' for i in range(4, 201))
    palette = build(root, classes).metainfo['palette']
    assert len(palette) == len(set(palette)) == 200


@pytest.mark.parametrize('classes', ['circle', ('circle',)])
def test_one_class(root, classes):
    dataset = build(root, classes)
    assert dataset.metainfo['classes'] == ('circle',)


def test_a_class_twice(root):
    with pytest.raises(ValueError, match="has .'circle'. several times"):
        build(root, ('circle', 'square', 'circle'))


def test_classes_of_older_versions(root):
    type(build(root))._load_metainfo(dict(classes=CLASSES))
    with pytest.raises(ValueError, match='CLASSES is of older .*classes='):
        type(build(root))._load_metainfo(dict(CLASSES=CLASSES))


def test_a_file_that_lacks_a_class(root):
    path = edit_json(root, lambda c: c['categories'].pop() and None)
    with pytest.raises(ValueError, match='add them to its "categories"') as e:
        build(root)
    assert str(path) in str(e.value)
