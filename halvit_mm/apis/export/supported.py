"""What a detector is made of, where its tensor-only forward is right."""

from operator import attrgetter
from typing import Optional, Tuple

from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from torch import nn

#: Parts that are computed anew: a subclass may compute something else.
_EXACT = {
    'rpn_head': RPNHead,
    'rpn_head.prior_generator': AnchorGenerator,
    'rpn_head.bbox_coder': DeltaXYWHBBoxCoder,
    'roi_head': StandardRoIHead,
    'roi_head.bbox_roi_extractor': SingleRoIExtractor,
    'roi_head.bbox_head.bbox_coder': DeltaXYWHBBoxCoder,
}
#: Parts that are called.
_CALLED = {'roi_head.bbox_head': ConvFCBBoxHead}
_EXACT_MASK = {'roi_head.mask_roi_extractor': SingleRoIExtractor}
_CALLED_MASK = {'roi_head.mask_head': FCNMaskHead}
#: Settings that are taken for granted.
_SETTINGS = {
    'rpn_head.use_sigmoid_cls': True,
    'rpn_head.bbox_coder.add_ctr_clamp': False,
    'roi_head.bbox_head.with_reg': True,
    'roi_head.bbox_head.custom_cls_channels': False,
    'roi_head.bbox_head.bbox_coder.add_ctr_clamp': False,
    'roi_head.with_shared_head': False,
}


def check_detector(model: nn.Module) -> None:
    """Check that a detector is one that :class:`.TwoStage` computes.

    Args:
        model: A model of mmdet.

    Raises:
        ValueError: With the part or the setting that is something else.
    """
    if not (isinstance(model, TwoStageDetector) and model.with_rpn):
        raise _refusal('the model', type(model).__name__, 'two-stage')
    exact, called = dict(_EXACT), dict(_CALLED)
    if model.roi_head.with_mask:
        exact.update(_EXACT_MASK)
        called.update(_CALLED_MASK)
    for name, kind in {**exact, **called}.items():
        part = attrgetter(name)(model)
        fits = type(part) is kind if name in exact else isinstance(part, kind)
        if not fits:
            raise _refusal(name, type(part).__name__, kind.__name__)
    for name, wanted in _SETTINGS.items():
        if (found := attrgetter(name)(model)) != wanted:
            raise _refusal(name, found, wanted)
    _check_layers(model.roi_head)
    for name in ('rpn_head', 'roi_head'):
        _check_nms(
            f'{name}.test_cfg.nms', attrgetter(name)(model).test_cfg.nms
        )


def check_any_size(
    backbone: nn.Module, size: Optional[Tuple[int, int]]
) -> None:
    """Check that a backbone can be exported for images of any size.

    Args:
        backbone: The backbone.
        size: Height and width, where they are fixed.

    Raises:
        ValueError: If PyTorch's exporter would not come to an end.
    """
    if size is None and 'Swin' in (name := type(backbone).__name__):
        raise ValueError(
            f'the windows of {name} are not followed for any size: say which, '
            '--shape HEIGHT WIDTH'
        )


def _check_layers(roi_head: nn.Module) -> None:
    """Check the layers that cut regions out."""
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        for layer in getattr(getattr(roi_head, name, None), 'roi_layers', ()):
            found = type(layer).__name__, getattr(layer, 'pool_mode', None)
            if found != ('RoIAlign', 'avg'):
                raise _refusal(f'roi_head.{name}', found, ('RoIAlign', 'avg'))


def _check_nms(name: str, cfg: dict) -> None:
    known = {'type': 'nms', 'iou_threshold': cfg.get('iou_threshold')}
    known['class_agnostic'] = cfg.get('class_agnostic', False)
    # From so many boxes on mmcv goes group by group, to the same result.
    found = {k: v for k, v in cfg.items() if k != 'split_thr'}
    if {**known, **found} != known or known['iou_threshold'] is None:
        raise _refusal(name, dict(cfg), "type='nms' with an iou_threshold")


def _refusal(name: str, found, wanted) -> ValueError:
    return ValueError(
        f'{name} is {found}: only {wanted} is exported with the heads; '
        '`--part features` exports the backbone and the neck of any model'
    )
