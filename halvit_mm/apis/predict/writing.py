"""Predictions as pictures, videos and JSON, written as they come."""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import IO, Dict, List, Optional

import cv2
import numpy as np

from ...visualization import Painter
from .prediction import Prediction
from .video import VideoWriter

_KEPT = frozenset('.bmp .jpeg .jpg .png .webp'.split())


class Writer:
    """Writes predictions to a folder; what is written stays after an error.

    Args:
        out: The folder; it is made.
        painter: Draws the pictures.
        categories: Of a COCO JSON, name -> id, for the results.
        with_json: Whether ``results.json`` is written, and, without
            ``categories``, ``images.json``.

    Attributes:
        images, objects: How many were written.

    Raises:
        OSError: If the folder cannot be written to.
    """

    def __init__(
        self,
        out: str,
        painter: Painter,
        categories: Optional[Dict[str, int]] = None,
        with_json: bool = False,
    ) -> None:
        self.out, self.painter = Path(out), painter
        self.images = self.objects = 0
        self._results = self._listed = self._video = None
        self._files = contextlib.ExitStack()
        self._source = ''  # of the video
        self._category_ids = _category_ids(painter.classes, categories)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            if not os.access(self.out, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if with_json:
                self._results = JSONList(self.out / 'results.json', '[', ']')
                self._files.callback(self._results.close)
            if with_json and categories is None:
                self._listed = self._image_list()
                self._files.callback(self._listed.close)
        except OSError as error:
            raise OSError(
                f'{out} cannot be written to ({error.strerror}): name another '
                'folder with --out'
            ) from error

    def __enter__(self) -> 'Writer':
        return self

    def __exit__(self, *args) -> None:
        """Write the ends of all files, also after an error."""
        self._files.close()

    def write(self, prediction: Prediction) -> None:
        """Write a prediction.

        Raises:
            OSError: If the disk is full, or the image itself would be
                replaced.
        """
        frame, image = prediction.frame, prediction.image
        picture = self.painter.draw(
            image,
            prediction.boxes,
            prediction.scores,
            prediction.labels,
            prediction.masks,
        )
        if frame.video is None:
            self._write_picture(prediction, picture)
        else:
            self._write_frame(prediction, picture)
        if self._results is not None:
            for result in prediction.coco_results(self._category_ids):
                self._results.write(result)
        if self._listed is not None:
            height, width = image.shape[:2]
            info = dict(id=frame.image_id, file_name=frame.name)
            info.update(height=height, width=width)
            if frame.video is not None:
                info['frame'] = frame.number
            self._listed.write(info)
        self.images += 1
        self.objects += len(prediction.scores)

    def _target(self, prediction: Prediction, kept, suffix: str) -> Path:
        """Where a picture goes: under the name of its file."""
        frame = prediction.frame
        # A JSON's names may be absolute or lead out of the folder.
        parts = [p for p in Path(frame.name).parts if p not in ('/', '..')]
        path = self.out.joinpath(*parts)
        if path.suffix.lower() not in kept:
            path = path.with_name(path.name + suffix)
        if path.resolve() == Path(frame.path).resolve():
            raise OSError(
                f'{path} would replace the image itself: name another folder '
                'with --out'
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_picture(
        self, prediction: Prediction, picture: np.ndarray
    ) -> None:
        path = self._target(prediction, _KEPT, '.png')
        if not cv2.imwrite(str(path), picture):
            raise OSError(f'{path} cannot be written: is the disk full?')

    def _write_frame(
        self, prediction: Prediction, picture: np.ndarray
    ) -> None:
        frame = prediction.frame
        if frame.path != self._source:
            if self._video is not None:
                self._video.close()
            path = self._target(prediction, {'.mp4'}, '.mp4')
            self._source = frame.path
            self._video = VideoWriter(path, frame.video.fps, picture.shape[:2])
            self._files.callback(self._video.close)  # twice is no harm
        self._video.write(picture)

    def _image_list(self) -> 'JSONList':
        """COCO's lists of images and categories, for the results."""
        categories = [
            dict(id=i, name=name)
            for i, name in zip(self._category_ids, self.painter.classes)
        ]
        start = json.dumps(dict(categories=categories, annotations=[]))
        return JSONList(
            self.out / 'images.json', f'{start[:-1]}, "images": [', ']}'
        )


class JSONList:
    """A JSON file with a list, whose items are written as they come.

    Args:
        path: The file.
        start, end: What stands before and behind the items.
    """

    def __init__(self, path: Path, start: str, end: str) -> None:
        self._file: IO = path.open('w')
        self._before, self._end = start, end

    def write(self, item: dict) -> None:
        """Append an item."""
        self._file.write(f'{self._before}\n{json.dumps(item)}')
        self._before = ','

    def close(self) -> None:
        """Write the end, which makes it whole."""
        start = '' if self._before == ',' else self._before
        self._file.write(f'{start}\n{self._end}\n')
        self._file.close()


def _category_ids(
    classes: List[str], categories: Optional[Dict[str, int]]
) -> List[int]:
    """The id of each class: the JSON's, or new ones from 1."""
    ids = dict(categories or {})
    for name in classes:
        ids.setdefault(name, max(ids.values(), default=0) + 1)
    return [ids[name] for name in classes]
