"""Detections on one image after the other."""

import inspect
from typing import Callable, Iterator, List, NamedTuple, Optional, Union

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.logging import print_log

from ...datasets import LoadImageFromFile
from ...visualization import Painter
from .model import load_model
from .prediction import Prediction
from .sources import Frame, Source
from .writing import Writer

#: Called with the number of images done and of all of them.
Progress = Callable[[int, int], None]


class Summary(NamedTuple):
    """What was written.

    Attributes:
        images: Number of images, those of videos among them.
        objects: Number of detections.
        skipped: A sentence for each file that could not be read, wholly or
            in part.
    """

    images: int
    objects: int
    skipped: List[str]


class Predictor:
    """A detector for images, folders, videos and COCO JSONs.

    Args:
        model, config, device: As for :func:`.load_model`.

    Attributes:
        classes: Names in the order of the labels.
        palette: A colour of each in RGB, 0 to 255.
    """

    def __init__(
        self,
        model: str,
        config: Optional[str] = None,
        device: Optional[str] = None,
    ) -> None:
        loaded = load_model(model, config, device)
        self.model = loaded.model
        self.classes, self.palette = loaded.classes, loaded.palette
        loader, *steps = loaded.pipeline
        self._loader = LoadImageFromFile(**_known_options(loader))
        self._steps = Compose(steps)

    def __call__(
        self, source: Union[str, Source], score: float = 0.5
    ) -> Iterator[Prediction]:
        """Predict on a source, an image at a time.

        Args:
            source: Image, video, folder, pattern with ``*``, COCO JSON, or a
                :class:`.Source`, which tells what was left out.
            score: Least score of a detection.

        Yields:
            The detections of each image that can be read.

        Raises:
            FileNotFoundError, ValueError: As for :class:`.Source`; a score
                that is not 0 to 1.
        """
        if not 0 <= score <= 1:
            raise ValueError(f'score={score}: 0 to 1')
        source = source if isinstance(source, Source) else Source(source)
        for frame in source:
            try:
                results = self._load(frame)
            except (OSError, ValueError, cv2.error) as error:
                reason = getattr(error, 'strerror', '') or error.__cause__
                reason = reason or error
                source.skip(f'{frame.path} is left out: {reason}')
                continue
            yield self._predict(frame, results, score)

    def save(
        self,
        source: str,
        out: str,
        score: float = 0.5,
        json: bool = False,
        images: Optional[str] = None,
        progress: Progress = lambda done, total: None,
    ) -> Summary:
        """Draw the detections of a source.

        Args:
            source, images: As for :class:`.Source`.
            out: Folder, which gets a picture of each image under its name,
                and an MP4 file of each video.
            score: Least score of a detection.
            json: Whether ``results.json``, COCO's results, is written as
                well, and ``images.json``, the images that it refers to, if
                the source is not a COCO JSON itself.
            progress: Called after each image.

        Returns:
            What was written and what was left out.

        Raises:
            FileNotFoundError, ValueError: As for :class:`.Source`.
            ImportError: Without ``supervision``.
            OSError: If ``out`` cannot be written to; what is there stays.
        """
        opened = Source(source, images)
        painter = Painter(self.classes, self.palette)
        with Writer(out, painter, opened.categories, json) as writer:
            for done, prediction in enumerate(self(opened, score), 1):
                writer.write(prediction)
                progress(done, opened.total)
        return Summary(writer.images, writer.objects, opened.skipped)

    def _load(self, frame: Frame) -> dict:
        """Read an image as the test of the model does."""
        height, width = frame.size
        results = dict(
            img_path=frame.path,
            img_id=frame.image_id,
            height=height,
            width=width,
        )
        if frame.image is not None:
            return self._loader.set_image(results, frame.image, frame.path)
        self._loader.broken.clear()
        return self._loader.transform(results)

    @torch.no_grad()
    def _predict(
        self, frame: Frame, results: dict, score: float
    ) -> Prediction:
        image = results['img']
        packed = self._steps(results)
        batch = {key: [value] for key, value in packed.items()}
        found = self.model.test_step(batch)[0].pred_instances
        found = found[found.scores >= score].cpu()
        return Prediction(
            frame,
            image.astype(np.uint8),
            found.bboxes.numpy(),
            found.scores.numpy(),
            found.labels.numpy(),
            found.masks.numpy().astype(bool) if 'masks' in found else None,
        )


def _known_options(loader: dict) -> dict:
    """The options of a config's loader that ours has; images are its own."""
    known = set(inspect.signature(LoadImageFromFile).parameters)
    known.remove('max_broken')
    others = loader.keys() - known - {'type', '_scope_', 'max_broken'}
    if others:
        print_log(
            f'{loader["type"]} of the test pipeline is replaced by '
            f'halvit_mm.LoadImageFromFile, without its {sorted(others)}',
            logger='current',
        )
    return {key: loader[key] for key in loader.keys() & known}
