"""What a written file computes, beside the model in PyTorch."""

from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .onnx_file import load_onnx
from .two_stage import TwoStage

#: Of an image's sides; a file of any size is tried at all of them.
_FACTORS = (1.0, 0.75, 0.5)
#: What the same detection may differ by: in pixels, in score, in what any
#: pixel of its mask is to be foreground.
_PIXELS, _SCORE, _MASK = 0.1, 1e-4, 0.01
#: Below it, detections are not looked for.
_LEAST = 0.05


def compare(
    path: Path,
    graph: nn.Module,
    multiple: int = 1,
    pictures: Sequence[str] = (),
    size: Optional[Tuple[int, int]] = None,
) -> str:
    """Run a file by onnxruntime, and the module that it was made of.

    Args:
        path: The file.
        graph: The module, in eval mode.
        multiple: Of which H and W are multiples.
        pictures: Image files; without any, one image of noise is taken.
        size: The only height and width of the file; else each image is
            taken at three sizes.

    Returns:
        A sentence.

    Raises:
        ValueError: If a picture cannot be read.
    """
    session = load_onnx()[1].InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    pairs = []
    for images in _images(pictures, multiple, size):
        actual = session.run(None, {'images': images.numpy()})
        with torch.no_grad():
            expected = graph(images)
        expected = [expected] if torch.is_tensor(expected) else expected
        pairs.append((actual, [tensor.numpy() for tensor in expected]))
    if isinstance(graph, TwoStage):
        return describe(pairs)
    # of numpy, for Python's max passes over what is no number
    error = np.max([abs(a - b).max() for p in pairs for a, b in zip(*p)])
    largest = np.max([abs(b).max() for _, expected in pairs for b in expected])
    return (
        f'{len(pairs)} images: differs by {error:.1e} at most from '
        f'PyTorch, in values of up to {largest:.1f}'
    )


def describe(pairs: List[Tuple]) -> str:
    """Count the detections that two have in common.

    Args:
        pairs: Of each image, ``actual`` and ``expected`` of :func:`match`.

    Returns:
        A sentence.
    """
    found = [match(*pair) for pair in pairs]
    total = sum(len(matched) for matched in found)
    same = sum(int(matched.sum()) for matched in found)
    of_file = sum(int((actual[1] > _LEAST).sum()) for actual, _ in pairs)
    if not total + of_file:
        return (
            f'{len(pairs)} images: nothing is found on them with a score '
            f'above {_LEAST}, so that nothing is compared: name pictures '
            'with --check'
        )
    return (
        f'{len(pairs)} images: {same} of {total} detections of PyTorch with a '
        f'score above {_LEAST} are among the {of_file} of the file, to '
        f'{_PIXELS} pixels, {_SCORE:g} in score and {_MASK} in masks'
    )


def match(actual: Sequence, expected: Sequence) -> np.ndarray:
    """Look for detections among others.

    Args:
        actual: Boxes, (N, 4), scores and labels, (N,), and masks, if any.
        expected: The same of M detections.

    Returns:
        Of each expected one whose score is above 0.05, whether it is found:
        with the same label, a score that differs by 1e-4, corners that
        differ by 0.1 pixels and a mask that differs by 0.01 at most.
    """
    boxes, scores, labels, *masks = actual
    looked_for, matched = expected[1] > _LEAST, []
    for box, score, label, *mask in zip(*(x[looked_for] for x in expected)):
        same = (labels == label) & (abs(scores - score) <= _SCORE)
        same &= (abs(boxes - box) <= _PIXELS).all(1)
        for ours, theirs in zip(masks, mask):
            same &= (abs(ours - theirs) <= _MASK).all((1, 2))
        matched.append(same.any())
    return np.array(matched, bool)


def _images(
    pictures: Sequence[str], multiple: int, size: Optional[Tuple[int, int]]
) -> Iterator[Tensor]:
    """Images (1, 3, H, W), RGB, 0 to 255."""
    for image in map(_read, pictures) if pictures else [_noise()]:
        for factor in _FACTORS[: 1 if size else None]:
            sides = size or [
                max(round(side * factor / multiple), 1) * multiple
                for side in image.shape[2:]
            ]
            yield F.interpolate(image, tuple(sides), mode='bilinear')


def _noise() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, 256, 320, generator=generator) * 255


def _read(path: str) -> Tensor:
    image = cv2.imread(path)
    if image is None:
        raise ValueError(f'{path} is no image that OpenCV can read')
    image = np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1))
    return torch.from_numpy(image)[None].float()
