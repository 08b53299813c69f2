"""mmcv's NMS, soft-NMS and RoIAlign through torchvision.

The functions have the names and the calling conventions of the compiled
``mmcv._ext``, which mmcv's own Python wrappers call. Boxes are
``(x1, y1, x2, y2)`` in pixels. All geometry is computed in float32, whatever
the inputs are: half precision cannot hold the coordinates of a large image.
"""

import functools
import logging

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


def get_compiler_version() -> str:
    """Returns: No compiler: mmcv's ``collect_env`` asks."""
    return 'n/a'


def get_compiling_cuda_version() -> str:
    """Returns: No CUDA version, as above."""
    return 'n/a'


@functools.cache
def _log_first_use() -> None:
    from mmengine.logging import print_log

    print_log(
        'mmcv has no compiled operators: NMS and RoIAlign run on torchvision',
        logger='current',
        level=logging.INFO,
    )


def _check(name: str, *tensors: Tensor, offset: int = 0) -> None:
    """Refuse what torchvision does not compute, or not as precisely."""
    if offset != 0:
        name += f' with offset={offset} (the old box convention)'
    elif any(tensor.dtype == torch.float64 for tensor in tensors):
        name += ' in float64'
    else:
        return
    raise NotImplementedError(unsupported_message(name))


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Indices of the boxes kept, best score first.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: A box that overlaps a better one by more is dropped.
        offset: Only 0.

    Returns:
        Indices, int64, (K,).

    Raises:
        NotImplementedError: If ``offset`` is not 0, or in float64.
    """
    _log_first_use()
    _check('nms', boxes, scores, offset=offset)
    return tv_nms(boxes.float(), scores.float(), iou_threshold)


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
        NotImplementedError: If ``offset`` is not 0, or in float64.
    """
    _log_first_use()
    _check('softnms', boxes, scores, offset=offset)
    left = torch.arange(len(boxes))
    boxes, scores = boxes.float(), scores.float().clone()
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


def _check_roi_align(pool_mode: int, *tensors: Tensor) -> None:
    if pool_mode != 1:
        name = "roi_align with pool_mode='max'"
        raise NotImplementedError(unsupported_message(name))
    _check('roi_align', *tensors)


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
        argmax_y: Unused, of max pooling.
        argmax_x: Unused, of max pooling.
        aligned_height: Height of the output.
        aligned_width: Width of the output.
        spatial_scale: Feature cells per pixel of the boxes.
        sampling_ratio: Samples per bin and axis, 0 for adaptive.
        pool_mode: Only 1 (average).
        aligned: Whether boxes are shifted by half a cell.

    Raises:
        NotImplementedError: If ``pool_mode`` is max pooling, or in float64.
    """
    _log_first_use()
    _check_roi_align(pool_mode, input, rois)
    output.copy_(
        tv_roi_align(
            input.float(),
            rois.float(),
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
    """Gradient of :func:`roi_align_forward`, written into ``grad_input``.

    Args: As for the forward; ``grad_output`` has the shape of ``output``,
        ``grad_input`` that of ``input``.

    Raises:
        NotImplementedError: If ``pool_mode`` is max pooling, or in float64.
    """
    _check_roi_align(pool_mode, grad_output, rois)
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output.float(),
        rois.float(),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(gradient)
