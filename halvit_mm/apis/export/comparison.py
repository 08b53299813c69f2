"""What a written file computes, beside the model in PyTorch."""

import math
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
#: Of the sides that are tried, besides the model's own multiple.
_MULTIPLE = 32
#: What the same detection may differ by, in pixels and in score.
_PIXELS, _SCORE = 0.1, 1e-4
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
    for images in _images(pictures, math.lcm(multiple, _MULTIPLE), size):
        actual = session.run(None, {'images': images.numpy()})
        with torch.no_grad():
            expected = graph(images)
        expected = [expected] if torch.is_tensor(expected) else expected
        pairs.append((actual, [tensor.numpy() for tensor in expected]))
    if isinstance(graph, TwoStage):
        return _compare_detections(pairs)
    errors = [abs(a - b).max() for pair in pairs for a, b in zip(*pair)]
    largest = max(abs(b).max() for _, expected in pairs for b in expected)
    return (
        f'{len(pairs)} images: differs by {max(errors):.1e} at most from '
        f'PyTorch, in values of up to {largest:.1f}'
    )


def _compare_detections(pairs: List[Tuple]) -> str:
    found = [match(*pair) for pair in pairs]
    total = sum(len(matched) for matched in found)
    same = sum(int(matched.sum()) for matched in found)
    return (
        f'{len(pairs)} images: {same} of {total} detections with a score '
        f'above {_LEAST} are those of PyTorch, to {_PIXELS} pixels and '
        f'{_SCORE:g} in score'
    )


def match(actual: Sequence, expected: Sequence) -> np.ndarray:
    """Look for detections among others.

    Args:
        actual: Boxes, (N, 4), scores and labels, (N,).
        expected: The same of M detections.

    Returns:
        Of each expected one whose score is above 0.05, whether it is found:
        with the same label, a score that differs by 1e-4 and corners that
        differ by 0.1 pixels at most.
    """
    (boxes, scores, labels), looked_for = actual[:3], expected[1] > _LEAST
    matched = []
    for box, score, label in zip(*(x[looked_for] for x in expected[:3])):
        same = (labels == label) & (abs(scores - score) <= _SCORE)
        matched.append((same & (abs(boxes - box) <= _PIXELS).all(1)).any())
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
