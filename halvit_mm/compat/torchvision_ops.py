"""mmcv's NMS, soft-NMS and RoIAlign through torchvision.

The functions have the names and the calling conventions of the compiled
``mmcv._ext``, which mmcv's own Python wrappers call. Boxes are
``(x1, y1, x2, y2)`` in pixels. Geometry is computed in float32 at least: half
precision cannot hold the coordinates of a large image.
"""

import functools
import logging
from typing import Iterator

import torch
from torch import Tensor
from torchvision.ops import nms as tv_nms
from torchvision.ops import roi_align as tv_roi_align

from .host import unsupported_message

__all__ = [
    'get_compiler_version',
    'get_compiling_cuda_version',
    'nms',
    'roi_align_backward',
    'roi_align_forward',
    'softnms',
]

_OLD = 'the old box convention'
_MAX = "roi_align with pool_mode='max'"


def get_compiler_version() -> str:
    """Tell mmcv's ``collect_env`` that nothing was compiled, nor for CUDA."""
    return 'n/a'


get_compiling_cuda_version = get_compiler_version


@functools.cache
def _log_first_use() -> None:
    from mmengine.logging import print_log

    print_log(
        'mmcv has no compiled operators: NMS and RoIAlign run on torchvision',
        logger='current',
        level=logging.INFO,
    )


def _check(is_supported: bool, what: str) -> None:
    if not is_supported:
        raise NotImplementedError(unsupported_message(what))


def _promoted(*tensors: Tensor) -> Iterator[Tensor]:
    """Cast to the widest of the dtypes, float32 at least."""
    dtypes = (tensor.dtype for tensor in tensors)
    dtype = functools.reduce(torch.promote_types, dtypes, torch.float32)
    return (tensor.to(dtype) for tensor in tensors)


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Select the boxes to keep (greedy non-maximum suppression).

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: A box that overlaps a better one by more is dropped.
        offset: Only 0.

    Returns:
        Indices of the boxes kept, best score first, int64, (K,).

    Raises:
        NotImplementedError: If ``offset`` is not 0.
    """
    _log_first_use()
    _check(offset == 0, f'nms with offset={offset} ({_OLD})')
    return tv_nms(*_promoted(boxes, scores), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., 2017): overlap lowers scores.

    Args:
        boxes: (N, 4), on the CPU.
        scores: (N,).
        dets: (N, 5), filled in place with the boxes and their new scores.
        iou_threshold: Used by the methods 0 and 1.
        sigma: Used by method 2.
        min_score: A box whose new score is lower is dropped.
        method: 0 hard, 1 linear, 2 Gaussian.
        offset: Only 0.

    Returns:
        Indices of the boxes kept, best new score first, int64, (K,).

    Raises:
        NotImplementedError: If ``offset`` is not 0.
    """
    _log_first_use()
    _check(offset == 0, f'softnms with offset={offset} ({_OLD})')
    left = torch.arange(len(boxes))
    boxes, scores = _promoted(boxes, scores.clone())
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    kept = []
    while len(left):
        best = scores[left].argmax()
        index = left[best]
        left = torch.cat((left[:best], left[best + 1 :]))
        dets[len(kept), :4], dets[len(kept), 4] = boxes[index], scores[index]
        kept.append(index)
        low = torch.maximum(boxes[index, :2], boxes[left, :2])
        high = torch.minimum(boxes[index, 2:], boxes[left, 2:])
        inter = (high - low).clamp(min=0).prod(dim=1)
        # 0 / 0 of boxes without area is no overlap
        iou = (inter / (areas[index] + areas[left] - inter)).nan_to_num()
        if method == 2:
            weight = torch.exp(-(iou * iou) / sigma)
        else:
            lowered = 1 - iou if method == 1 else torch.zeros_like(iou)
            weight = torch.where(iou >= iou_threshold, lowered, 1.0)
        scores[left] *= weight
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else left


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (He et al., 2017), written into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (K, 5), image index and box.
        output: (K, C, aligned_height, aligned_width), filled in place.
        argmax_y, argmax_x: Only for max pooling; not used.
        spatial_scale: Feature cells per pixel of the boxes.
        sampling_ratio: Samples per bin and axis, 0 for adaptive.
        pool_mode: Only 1 (average).
        aligned: Whether boxes are shifted by half a cell.

    Raises:
        NotImplementedError: If ``pool_mode`` is max pooling.
    """
    _log_first_use()
    _check(pool_mode == 1, _MAX)
    output.copy_(
        tv_roi_align(
            *_promoted(input, rois),
            (aligned_height, aligned_width),
            spatial_scale,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of :func:`roi_align_forward` into ``grad_input``.

    ``grad_output`` has the shape of its output, ``grad_input`` that of its
    input; the other arguments are the same.
    """
    _check(pool_mode == 1, _MAX)
    gradient = torch.ops.torchvision._roi_align_backward(
        *_promoted(grad_output, rois),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(gradient)
