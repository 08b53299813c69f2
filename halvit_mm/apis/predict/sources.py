"""What a user names to predict on: images, folders, videos, COCO files."""

import glob
import logging
import os
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from mmengine.logging import print_log

from ...datasets import read_coco, require_below
from ...datasets.coco_check.findings import some_of
from .video import Video, read_frames, read_video

IMAGES = frozenset(
    '.bmp .gif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp'.split()
)
VIDEOS = frozenset('.avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm'.split())


class Frame(NamedTuple):
    """An image file, or an image of a video.

    Attributes:
        path: The file.
        name: Its path below the source.
        image_id: Number of the image in COCO's results.
        size: Height and width in the annotations, where there are any.
        video: The video, of which it is the next image.
        number: Its number there, from 0.
        image: (H, W, 3), BGR, of a video.
    """

    path: str
    name: str
    image_id: int
    size: Tuple[Optional[int], Optional[int]] = (None, None)
    video: Optional[Video] = None
    number: int = 0
    image: Optional[np.ndarray] = None


class Source:
    """Images, one after the other; none is kept.

    Args:
        source: Image, video, folder, pattern with ``*`` or COCO JSON.
        images: Folder of a JSON's images, by default that of the JSON.

    Attributes:
        total: Number of images, as far as the files tell.
        categories: Of a COCO JSON, name -> id; else None.
        skipped: A sentence for each file that could not be read.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If there is nothing in it, or it is a JSON of another
            kind.
    """

    def __init__(self, source: str, images: Optional[str] = None) -> None:
        self.skipped: List[str] = []
        self.categories: Optional[Dict[str, int]] = None
        if Path(source).suffix == '.json':
            self._read_json(source, images)
            return
        if images is not None:
            raise ValueError(
                f'a folder of images goes with a COCO JSON, which {source} '
                'is not'
            )
        files = _files_of(source)
        root = os.path.commonpath([os.path.dirname(file) for file in files])
        names = [os.path.relpath(file, root or '.') for file in files]
        self._files = list(zip(files, names))
        self.total = sum(_length(file) for file in files)

    def _read_json(self, source: str, images: Optional[str]) -> None:
        if not Path(source).is_file():
            raise FileNotFoundError(f'there is no {source}')
        folder = images or os.path.dirname(source)
        if not Path(folder or '.').is_dir():
            raise FileNotFoundError(f'there is no image folder {folder}')
        file = read_coco(source, folder)
        require_below(file, folder or '.')
        for line in file.findings.lines():
            print_log(line, logger='current', level=logging.WARNING)
        self.categories = {c['name']: c['id'] for c in file.categories}
        self._images = [
            (os.path.join(folder, image['file_name']), image)
            for image in file.images
        ]
        self.total = len(self._images)
        if not any(os.path.isfile(path) for path, _ in self._images):
            raise FileNotFoundError(
                f'none of the {self.total} images of {source} is there: name '
                f'their folder with --images; {self._images[0][0]}, for '
                'example, does not exist'
            )

    def skip(self, sentence: str) -> None:
        """Keep and log what could not be read."""
        self.skipped.append(sentence)
        print_log(sentence, logger='current', level=logging.WARNING)

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the images."""
        if self.categories is not None:
            for path, image in self._images:
                size = image.get('height'), image.get('width')
                yield Frame(path, image['file_name'], image['id'], size)
            return
        image_id = 0
        for path, name in self._files:
            if not _is_video(path):
                image_id += 1
                yield Frame(path, name, image_id)
                continue
            video = read_video(path)
            for number, image in read_frames(video, self.skip):
                image_id += 1
                yield Frame(
                    path,
                    name,
                    image_id,
                    video=video,
                    number=number,
                    image=image,
                )


def _is_video(path: str) -> bool:
    return Path(path).suffix.lower() in VIDEOS


def _length(path: str) -> int:
    return read_video(path).total if _is_video(path) else 1


def _files_of(source: str) -> List[str]:
    """The images and videos of a folder or a pattern, or the file itself."""
    if os.path.isdir(source):
        found = [os.path.join(source, name) for name in os.listdir(source)]
        deeper = f'; those of deeper folders are meant by "{source}/**/*"'
    elif os.path.isfile(source):
        return [source]
    elif glob.has_magic(source):
        found, deeper = glob.glob(source, recursive=True), ''
    else:
        raise FileNotFoundError(f'there is no {source}')
    found = sorted(path for path in found if os.path.isfile(path))
    files = [p for p in found if Path(p).suffix.lower() in IMAGES | VIDEOS]
    others = sorted(set(found) - set(files))
    if not files:
        raise ValueError(
            f'{source}: there is no image and no video{deeper}'
            + f'; its files are {some_of(others)}' * bool(others)
        )
    if others:
        print_log(
            f'{source}: no images or videos by their names, left out '
            f'({len(others)}): {some_of(others)}',
            logger='current',
        )
    return files
