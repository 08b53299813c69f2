"""Videos, read and written an image at a time."""

from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Tuple

import cv2
import numpy as np

from ...datasets.coco_check.findings import some_of
from ...visualization import load_supervision

#: Images in a row that cannot be decoded, after which a video is given up.
_PATIENCE = 300


class Video(NamedTuple):
    """What a video says of itself.

    Attributes:
        path: The file.
        fps: Images a second.
        total: Number of images, at most 0 where it is not known.
    """

    path: str
    fps: float
    total: int


def read_video(path: str) -> Video:
    """Read what a video says of itself; without a codec it has 0 images."""
    capture = cv2.VideoCapture(path)
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return Video(path, fps if 0 < fps < 1000 else 25.0, max(total, 0))


def read_frames(
    video: Video, skip: Callable[[str], None]
) -> Iterator[Tuple[int, np.ndarray]]:
    """Decode a video, and go on behind what cannot be decoded.

    Args:
        video: The video.
        skip: Called with a sentence where images were left out.

    Yields:
        The number of an image, from 0, and (H, W, 3), BGR.
    """
    capture = cv2.VideoCapture(video.path)
    number = decoded = in_a_row = 0
    lost, size = [], None
    try:
        while True:
            is_there, image = capture.read()
            if is_there and image.shape == (size or image.shape):
                size, in_a_row, decoded = image.shape, 0, decoded + 1
                yield number, image
            elif number >= video.total or in_a_row == _PATIENCE:
                break
            else:
                lost.append(number)
                in_a_row += 1
            number += 1
    finally:
        capture.release()
    if size is None:
        skip(
            f'{video.path} is left out, OpenCV cannot decode it: it is '
            'damaged, or of a codec that is not there; `ffmpeg -i IN -c:v '
            'libx264 OUT.mp4` writes one that is'
        )
    elif lost:
        missing = max(len(lost), video.total - decoded)
        skip(
            f'{video.path}: {missing} of {video.total} images are left out, '
            f'which cannot be decoded (numbers from 0: {some_of(lost)})'
        )


class VideoWriter:
    """Writes an MP4 file; it is whole once it is closed.

    Args:
        path: The file.
        fps: Images a second.
        size: Height and width of the images.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: Tuple[int, int]) -> None:
        sv = load_supervision()
        self.sink = sv.VideoSink(str(path), sv.VideoInfo(*size[::-1], fps))
        try:
            self.sink.__enter__()
        except RuntimeError as error:
            raise OSError(f'{path} cannot be written: {error}') from error

    def write(self, picture: np.ndarray) -> None:
        """Append an image, (H, W, 3), BGR."""
        self.sink.write_frame(picture)

    def close(self) -> None:
        """Write the end of the file."""
        self.sink.__exit__(None, None, None)
