"""The tensor-only forward of detectors is that of mmdet, to the bit."""

import copy

import numpy as np
import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator
from mmdet.structures import DetDataSample
from torch.testing import assert_close

from halvit_mm.apis.export import comparison
from halvit_mm.apis.export.comparison import match
from halvit_mm.apis.export.supported import check_detector
from halvit_mm.apis.export.two_stage import TwoStage

from ..tiny_detector import make_run, spread

SIZES = [(48, 64), (100, 77), (33, 150)]


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """Mask R-CNN whose boxes are spread and whose classes differ."""
    model = spread(make_run(tmp_path_factory.mktemp('run'))[2])
    model.roi_head.test_cfg.max_per_img = 30
    return model


@pytest.fixture
def changed(detector):
    """A copy that a test may change."""
    return copy.deepcopy(detector)


def without_masks(model):
    model.roi_head.mask_head = None


def class_agnostic(model):
    head = model.roi_head.bbox_head
    head.reg_class_agnostic = True
    head.fc_reg = torch.nn.Linear(head.fc_reg.in_features, 4)
    head.fc_reg.requires_grad_(False)
    model.roi_head.test_cfg.nms.class_agnostic = True


def few_proposals(model):
    model.rpn_head.test_cfg.update(nms_pre=50, max_per_img=20)
    model.rpn_head.test_cfg.min_bbox_size = 8


def anchors_of_each_level(model):
    model.rpn_head.prior_generator = AnchorGenerator(
        ratios=[0.5, 1, 2],
        octave_base_scale=3,
        scales_per_octave=1,
        strides=[4, 8, 16, 32, 64],
        base_sizes=[3, 7, 17, 33, 66],
        center_offset=0.5,
    )


def bgr(model):
    model.data_preprocessor._channel_conversion = False


def nothing_found(model):
    model.roi_head.test_cfg.score_thr = 1.0


CHANGES = [
    lambda model: None,
    without_masks,
    class_agnostic,
    few_proposals,
    anchors_of_each_level,
    bgr,
    nothing_found,
]


@torch.no_grad()
@pytest.mark.parametrize('change', CHANGES, ids=lambda f: f.__name__)
def test_is_what_mmdet_predicts(change, changed):
    change(changed)
    graph = TwoStage(changed)
    for height, width in SIZES:
        size = (height, width)
        image = torch.randint(256, (3, *size), dtype=torch.uint8)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)
            )
        )
        batch = dict(inputs=[image], data_samples=[sample])
        found = changed.test_step(batch)[0].pred_instances
        boxes, scores, labels, *masks = graph(image.flip(0)[None].float())
        assert (len(scores) > 20) == (change is not nothing_found)
        assert_close(boxes, found.bboxes, rtol=0, atol=1e-4)
        assert_close(scores, found.scores, rtol=0, atol=1e-6)
        assert torch.equal(labels, found.labels)
        assert bool(masks) == changed.roi_head.with_mask
        assert len(graph.names) == 3 + len(masks)
        for mask in masks:
            assert mask.shape == (len(scores), 28, 28)


def fast_rcnn(model):
    del model.rpn_head


def soft_nms(model):
    model.roi_head.test_cfg.nms.type = 'soft_nms'


def another_head(model):
    kind = type(model.roi_head)
    model.roi_head.__class__ = type('PointRendRoIHead', (kind,), {})


def max_pooling(model):
    model.roi_head.bbox_roi_extractor.roi_layers[0].pool_mode = 'max'


def seesaw(model):
    model.roi_head.bbox_head.loss_cls.custom_cls_channels = True


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (fast_rcnn, 'the model is MaskRCNN: only two-stage'),
        (soft_nms, r"roi_head.test_cfg.nms is {'type': 'soft_nms'"),
        (another_head, 'roi_head is PointRendRoIHead: only StandardRoIHead'),
        (max_pooling, r"bbox_roi_extractor is \('RoIAlign', 'max'\): only"),
        (seesaw, 'bbox_head.custom_cls_channels is True: only False'),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_other_detectors_are_refused(change, message, changed):
    change(changed)
    with pytest.raises(ValueError, match=f'{message}.*--part features'):
        check_detector(changed)


def one_detection(box=0.0, score=0.9, label=1, mask=0.5):
    """Boxes, scores, labels and masks."""
    boxes, masks = np.full((1, 4), box), np.full((1, 28, 28), mask)
    return [boxes, np.array([score]), np.array([label]), masks]


def test_what_is_the_same_detection():
    assert match(one_detection(0.05, mask=0.505), one_detection()).all()
    for change in (
        dict(box=0.2),
        dict(score=0.8),
        dict(label=0),
        dict(mask=1),
    ):
        assert not match(one_detection(**change), one_detection()).any()


def test_detections_that_only_the_file_has_are_counted():
    pair = (one_detection(), one_detection(score=0.04))
    assert ' 0 of 0 ' in (said := comparison.describe([pair]))
    assert 'among the 1 of the file' in said
    assert 'nothing is compared' in comparison.describe([pair[1:] * 2])
