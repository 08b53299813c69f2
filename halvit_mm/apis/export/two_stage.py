"""Faster R-CNN and Mask R-CNN as a function of tensors.

mmdet's ``predict`` keeps its results in objects and asks how many there are,
which no exporter can follow. This is the same arithmetic on the modules and
test settings of the built model, for one image.

Shapes: H x W pixels of the image, A anchors of a level, N boxes, C classes,
boxes by their corners (x1, y1, x2, y2) in pixels.
"""

import math
from typing import Tuple

import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from .features import Features
from .supported import check_detector


class TwoStage(nn.Module):
    """A detector of mmdet from an image to its detections.

    Args:
        model: Faster R-CNN or Mask R-CNN, built, in eval mode.

    Raises:
        ValueError: If a part of it is none that is understood here.
    """

    num_images = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check_detector(model)
        self.features = Features(model)
        self.rpn_head, self.roi_head = model.rpn_head, model.roi_head
        #: Of what :meth:`forward` returns.
        self.names = ('boxes', 'scores', 'labels')
        self.names += ('masks',) * self.roi_head.with_mask

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Detect.

        Args:
            images: (1, 3, H, W), RGB, 0 to 255.

        Returns:
            Boxes, (N, 4); scores, (N,), best first; labels, (N,); of Mask
            R-CNN, what each pixel of a mask is to be foreground, (N, 28, 28).
        """
        size = images.shape[2:]
        feats = self.features(images)
        proposals = self.propose(feats, size)
        boxes, scores, labels = self.classify(feats, proposals, size)
        if not self.roi_head.with_mask:
            return boxes, scores, labels
        return boxes, scores, labels, self.segment(feats, boxes, labels)

    def propose(self, feats: Tuple[Tensor, ...], size: torch.Size) -> Tensor:
        """Propose regions, as ``RPNHead.predict``.

        Args:
            feats: The pyramid.
            size: H and W, without padding.

        Returns:
            (N, 4).
        """
        head, cfg = self.rpn_head, self.rpn_head.test_cfg
        found = []
        for level, (logits, deltas) in enumerate(zip(*head(feats))):
            anchors = head.prior_generator.single_level_grid_priors(
                logits.shape[2:], level, logits.dtype, logits.device
            )
            scores = logits[0].permute(1, 2, 0).reshape(-1).sigmoid()
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
            if cfg.get('nms_pre', -1) > 0:
                number = torch.sym_min(cfg.nms_pre, scores.shape[0])
                scores, best = scores.topk(number)
                anchors, deltas = anchors[best], deltas[best]
            boxes = decode(head.bbox_coder, anchors, deltas, size)
            levels = torch.full_like(scores, level)
            found.append((boxes, scores, levels))
        boxes, scores, levels = map(torch.cat, zip(*found))
        least = cfg.get('min_bbox_size', -1)
        if least >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > least).all(dim=1)
            boxes, scores, levels = boxes[large], scores[large], levels[large]
        kept = select(boxes, scores, levels, cfg.nms)[: cfg.max_per_img]
        return boxes[kept]

    def classify(
        self, feats: Tuple[Tensor, ...], proposals: Tensor, size: torch.Size
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Classify and refine proposals, as ``StandardRoIHead.predict_bbox``.

        Args:
            feats: The pyramid.
            proposals: (N, 4).
            size: H and W, without padding.

        Returns:
            Boxes, scores and labels of the detections.
        """
        head, cfg = self.roi_head.bbox_head, self.roi_head.test_cfg
        pooled = pool(self.roi_head.bbox_roi_extractor, feats, proposals)
        logits, deltas = head(pooled)
        scores = logits.softmax(dim=-1)[:, :-1]
        C = scores.shape[1]
        deltas = deltas.reshape(-1, 1 if head.reg_class_agnostic else C, 4)
        boxes = decode(head.bbox_coder, proposals[:, None], deltas, size)
        boxes = boxes.expand(-1, C, 4)
        rows, labels = torch.where(scores > cfg.score_thr)
        boxes, scores = boxes[rows, labels], scores[rows, labels]
        kept = select(boxes, scores, labels, cfg.nms)
        if cfg.max_per_img > 0:
            kept = kept[: cfg.max_per_img]
        return boxes[kept], scores[kept], labels[kept]

    def segment(
        self, feats: Tuple[Tensor, ...], boxes: Tensor, labels: Tensor
    ) -> Tensor:
        """Segment what is in the boxes, as ``FCNMaskHead`` before pasting.

        Args:
            feats: The pyramid.
            boxes: (N, 4).
            labels: (N,).

        Returns:
            Probabilities, (N, 28, 28).
        """
        head = self.roi_head.mask_head
        masks = head(pool(self.roi_head.mask_roi_extractor, feats, boxes))
        if head.class_agnostic:
            labels = torch.zeros_like(labels)
        index = labels[:, None, None, None].expand(-1, 1, *masks.shape[2:])
        return masks.gather(1, index)[:, 0].sigmoid()


def decode(coder, boxes: Tensor, deltas: Tensor, size: torch.Size) -> Tensor:
    """Apply deltas to boxes, as ``DeltaXYWHBBoxCoder.decode``.

    Args:
        coder: The coder.
        boxes: (N, 4) or (N, 1, 4).
        deltas: (N, 4) or (N, C, 4).
        size: H and W, to which boxes are cut.

    Returns:
        Of the shape of ``deltas``.
    """
    deltas = deltas * deltas.new_tensor(coder.stds)
    deltas = deltas + deltas.new_tensor(coder.means)
    centres = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    sides = boxes[..., 2:] - boxes[..., :2]
    longest = abs(math.log(16 / 1000))  # the host's default
    centres = centres + sides * deltas[..., :2]
    sides = sides * deltas[..., 2:].clamp(-longest, longest).exp()
    x1, y1 = (centres - sides * 0.5).unbind(-1)
    x2, y2 = (centres + sides * 0.5).unbind(-1)
    if coder.clip_border:
        height, width = size
        x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
        y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
    return torch.stack((x1, y1, x2, y2), dim=-1)


def select(boxes: Tensor, scores: Tensor, groups: Tensor, cfg) -> Tensor:
    """Suppress what overlaps in a group, as mmcv's ``batched_nms``.

    Args:
        boxes: (N, 4).
        scores: (N,).
        groups: (N,), numbers of levels or classes.
        cfg: The config of the NMS.

    Returns:
        Indices of what is kept, best score first.
    """
    if not cfg.get('class_agnostic', False):
        # By offsets as the host's, for they round the coordinates. The zero
        # is for images without a box.
        corners = torch.cat((boxes.flatten(), boxes.new_zeros(1)))
        boxes = boxes + (groups.to(boxes) * (corners.max() + 1))[:, None]
    return nms(boxes, scores, cfg.iou_threshold)


def pool(extractor, feats: Tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Cut boxes out of the levels that they belong to.

    Args:
        extractor: A ``SingleRoIExtractor``.
        feats: The pyramid; further levels are not used.
        boxes: (N, 4).

    Returns:
        (N, channels, side, side).
    """
    layers = extractor.roi_layers
    rois = torch.cat((boxes.new_zeros(boxes.shape[0], 1), boxes), dim=1)
    levels = extractor.map_roi_levels(rois, len(layers))
    pooled = boxes.new_zeros(
        boxes.shape[0], extractor.out_channels, *layers[0].output_size
    )
    for i, (layer, level) in enumerate(zip(layers, feats)):
        places = torch.where(levels == i)[0]
        found = roi_align(
            level,
            rois[places],
            layer.output_size,
            layer.spatial_scale,
            layer.sampling_ratio,
            layer.aligned,
        )
        pooled = pooled.index_copy(0, places, found)
    return pooled
