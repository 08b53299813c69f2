"""Detections on images of a validation set."""

import cv2
import mmdet.visualization
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from halvit_mm.visualization import draw_sample

H, W = 80, 120


def objects(**kwargs):
    masks = np.zeros((1, H, W), bool)
    masks[:, 20:60, 30:90] = True
    return InstanceData(
        bboxes=torch.tensor([[30.0, 20, 90, 60]]),
        labels=torch.tensor([0]),
        masks=masks,
        **kwargs,
    )


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / 'grey.png'
    cv2.imwrite(str(path), np.full((H, W, 3), 100, np.uint8))
    return DetDataSample(
        metainfo=dict(img_path=str(path), ori_shape=(H, W)),
        pred_instances=objects(scores=torch.tensor([0.9])),
        gt_instances=InstanceData(),
    )


def draw(sample, out):
    visualizer = mmdet.visualization.DetLocalVisualizer()
    visualizer.dataset_meta = dict(classes=('cat',), palette=[(255, 0, 0)])
    return draw_sample(visualizer, sample, str(out / 'new' / 'sample.jpg'))


def test_what_is_found_is_coloured(sample, tmp_path):
    picture = draw(sample, tmp_path)
    assert picture.shape == (H, W, 3)
    assert abs(int(picture[5, 5, 0]) - 100) < 5  # outside, as it was
    red, green, _ = picture[50, 60].astype(int)
    assert red > green + 30
    sample.pred_instances.scores[:] = 0.2
    assert abs(draw(sample, tmp_path).astype(int) - 100).max() < 5


def test_the_truth_is_on_the_left(sample, tmp_path):
    sample.gt_instances = objects()
    sample.pred_instances = sample.pred_instances[:0]
    picture = draw(sample, tmp_path).astype(int)
    assert picture.shape == (H, 2 * W, 3)
    assert picture[50, 60, 0] > picture[50, 60, 1] + 30
    assert abs(picture[50, W + 60] - 100).max() < 5


def test_an_image_that_is_gone(sample, tmp_path):
    (tmp_path / 'grey.png').unlink()
    with pytest.raises(ValueError, match='grey.png cannot be read'):
        draw(sample, tmp_path)
