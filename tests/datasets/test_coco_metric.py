"""The evaluator: the images of the data set, by their names and classes."""

import json

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset
from mmengine.registry import METRICS

from halvit_mm.apis.coco_summary import coco_summary
from halvit_mm.datasets.shapes import CLASSES, draw_detection_split

from .truth import ANN_FILE, build, edit_json, scores_of_truth


def make(root, **kwargs):
    metric = METRICS.build(
        dict(type='halvit_mm.CocoMetric', ann_file=str(root / ANN_FILE))
        | kwargs
    )
    metric.dataset_meta = dict(classes=CLASSES)
    return metric


def feed(metric, dataset):
    """Give the objects of a data set as detections; returns the scores."""
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        found = info['instances']
        boxes = [x['bbox'] for x in found]
        detections = dict(
            bboxes=torch.tensor(np.array(boxes, float).reshape(-1, 4)),
            scores=torch.ones(len(found)),
            labels=torch.tensor([x['bbox_label'] for x in found]),
        )
        sample = dict(
            img_id=info['img_id'],
            img_path=info['img_path'],
            ori_shape=(info['height'], info['width']),
            pred_instances=detections,
        )
        metric.process({}, [sample])
    return metric.evaluate(size=len(dataset))


def test_only_the_images_of_the_data_set_count(root, tmp_path, log):
    dataset = build(root, indices=[1, 4])
    metric = make(root, outfile_prefix=f'{tmp_path}/x')
    assert feed(metric, dataset)['coco/bbox_mAP'] == 1.0
    assert 'evaluated on 2 of the 6 images' in log.text
    summary = coco_summary(
        root / ANN_FILE, tmp_path / 'x.bbox.json', image_ids=[2, 5]
    )
    assert summary['AP'] == pytest.approx(1)


def test_classes_in_another_order_than_in_training(root, tmp_path):
    def turn(content):
        content['categories'].reverse()
        for category in content['categories']:
            category['id'] = 10 * (4 - category['id'])
        for annotation in content['annotations']:
            annotation['category_id'] = 10 * (4 - annotation['category_id'])

    edit_json(root, turn)
    scores = scores_of_truth(root, tmp_path)
    assert scores == {'bbox': (1.0, 1.0), 'segm': (1.0, 1.0)}


def test_the_table_of_classes_has_their_scores(root, tmp_path):
    """The host sorts ids and not names: figures stand at other classes."""

    def turn(content):
        for item in content['categories']:
            item['id'] = 4 - item['id']
        for item in content['annotations']:
            item['category_id'] = 4 - item['category_id']

    edit_json(root, turn)
    dataset = build(root)
    metric = make(root, classwise=True, outfile_prefix=f'{tmp_path}/x')

    class WithoutCircles:
        def __len__(self):
            return len(dataset)

        def get_data_info(self, i):
            info = dataset.get_data_info(i)
            keep = [x for x in info['instances'] if x['bbox_label']]
            return dict(info, instances=keep)

    scores = feed(metric, WithoutCircles())
    by_class = [scores[f'coco/{name}_precision'] for name in CLASSES]
    assert by_class == [0, 1, 1]
    results = json.loads((tmp_path / 'x.bbox.json').read_text())
    assert {x['category_id'] for x in results} == {1, 2}


def other_names(content):
    for image in content['images']:
        image['file_name'] = f'0{image["file_name"]}'


def other_ids(content):
    for image in content['images']:
        image['id'] += 100
    for annotation in content['annotations']:
        annotation['image_id'] += 100


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (other_ids, 'image 1, .*/000001.png, is one that .* does not have'),
        (other_names, 'image 1, .*000001.png, is one that .* calls 0000001.p'),
    ],
    ids=['ids', 'names'],
)
def test_annotations_of_another_data_set(root, change, problem):
    dataset = build(root)
    edit_json(root, change)
    metric = make(root)
    for check in (metric.check_dataset, lambda x: feed(metric, x)):
        with pytest.raises(ValueError, match=problem) as info:
            check(dataset)
        assert 'give ann_file of the data set' in str(info.value)


def test_annotations_of_other_images_of_the_same_names(root, tmp_path):
    dataset, metric = build(root), make(root)
    draw_detection_split(tmp_path / 'x', 'train', 6, size=96, seed=9)
    other = make(tmp_path / 'x')
    with pytest.raises(ValueError, match=r'of \d+ objects .* has [0-4]: gi'):
        other.check_dataset(dataset)
    metric.check_dataset(dataset)

    def correct(content):  # another edition of the same file
        del content['annotations'][3]
        for annotation in content['annotations']:
            annotation['bbox'][0] += 0.7

    copied = tmp_path / 'x' / ANN_FILE
    copied.write_text((root / ANN_FILE).read_text())
    edit_json(tmp_path / 'x', correct)
    make(tmp_path / 'x').check_dataset(dataset)


@pytest.mark.parametrize('ann_file', [{}, dict(ann_file=None)])
def test_several_data_sets_are_refused(root, ann_file):
    both = ConcatDataset([build(root), build(root)])
    with pytest.raises(ValueError, match='ConcatDataset of 2 data sets'):
        make(root, **ann_file).check_dataset(both)


@pytest.mark.parametrize('nums', [(100,), (1, 10), (1, 10, 50), (300, 100, 1)])
def test_proposal_nums_that_spoil_the_averages(root, nums):
    with pytest.raises(ValueError, match='proposal_nums=.*three rising'):
        make(root, proposal_nums=nums)


@pytest.mark.parametrize('nums', [(1, 10, 100), (100, 300, 1000)])
def test_proposal_nums(root, nums, tmp_path):
    metric = make(root, proposal_nums=nums)
    assert feed(metric, build(root))['coco/bbox_mAP'] == 1.0


def test_the_annotations_of_the_data_set(root):
    dataset = build(root, test_mode=True)
    metric = make(root, ann_file=None)
    metric.check_dataset(dataset)
    assert feed(metric, dataset)['coco/bbox_mAP'] == 1.0


def test_no_annotation_file(root):
    with pytest.raises(FileNotFoundError, match='x.json for the evaluator: w'):
        make(root, ann_file='data/x.json')


class WithoutDetections:
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def get_data_info(self, i):
        return dict(self.dataset.get_data_info(i), instances=[])


def test_no_detection_is_a_score_of_zero(root):
    scores = feed(make(root), WithoutDetections(build(root)))
    assert scores['coco/bbox_mAP'] == scores['coco/bbox_mAP_50'] == 0


def test_no_object_to_compare_with(root):
    edit_json(root, lambda content: content.update(annotations=[]))
    dataset = build(root, test_mode=True)
    with pytest.raises(ValueError, match='no object .* compare'):
        make(root).check_dataset(dataset)
    make(root, format_only=True, outfile_prefix=f'{root}/x').check_dataset(
        dataset
    )
