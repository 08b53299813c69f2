"""Colours for any number of classes, as mmdet's visualiser takes them."""

from itertools import combinations

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from halvit_mm.datasets.palettes import palette_for


@pytest.mark.parametrize('number', [0, 1, 80, 200, 5000])
def test_every_class_has_its_colour(number):
    colours = palette_for(number)
    assert len(colours) == len(set(colours)) == number
    assert palette_for(number + 7)[:number] == colours
    assert all(type(value) is int for colour in colours for value in colour)
    channels = np.array(colours).reshape(-1, 3)
    assert ((channels >= 0) & (channels <= 255)).all()
    assert (channels.max(1) > 100).all()  # visible on black


def test_colours_can_be_told_apart():
    far = [
        np.abs(np.subtract(*pair)).max()
        for pair in combinations(palette_for(10), 2)
    ]
    assert min(far) >= 25


def test_mmdet_draws_the_last_class():
    number = 200  # mmdet's COCO palette has 80
    box = torch.tensor([[8.0, 8.0, 50.0, 50.0]])
    sample = DetDataSample()
    sample.pred_instances = InstanceData(
        bboxes=box,
        labels=torch.tensor([number - 1]),
        scores=torch.ones(1),
    )
    visualizer = DetLocalVisualizer(alpha=1.0)
    palette = palette_for(number)
    visualizer.dataset_meta = dict(
        classes=[f'class {i}' for i in range(number)], palette=palette
    )
    image = np.zeros((64, 64, 3), np.uint8)
    visualizer.add_datasample('', image, sample, draw_gt=False)
    drawn = visualizer.get_image().astype(int)
    assert (abs(drawn - palette[-1]).max(-1) < 3).sum() > 100
    visualizer.dataset_meta['palette'] = palette_for(80)
    with pytest.raises(AssertionError, match='length of palette'):
        visualizer.add_datasample('', image, sample, draw_gt=False)
