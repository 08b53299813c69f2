"""The demo's data: circles, squares and triangles, drawn from a seed.

There are two data sets: images of several objects with COCO annotations for
detection, and images of one object in a folder per class for pretraining. The
seed determines every image, polygon, area and box.
"""

import json
from pathlib import Path
from typing import Dict, List, Tuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

CLASSES = ('circle', 'square', 'triangle')
#: Corners of each polygon (a circle has many), and the angle of the first
#: corner when the polygon stands upright.
_CORNERS = {'circle': 32, 'square': 4, 'triangle': 3}
_UPRIGHT = {'circle': 0.0, 'square': np.pi / 4, 'triangle': -np.pi / 2}
_TILT = np.deg2rad(20)  # at most, to either side
_RADIUS = (12, 26)  # pixels from the centre to a corner
_NOISE = 8.0  # standard deviation, of 255 grey levels
_MAX_OBJECTS = 4  # in an image


def _polygon(rng, name: str, centre, radius: float) -> np.ndarray:
    """Draw a slightly tilted polygon: corners (K, 2), x and y in pixels."""
    corners = _CORNERS[name]
    turn = _UPRIGHT[name] + rng.uniform(-_TILT, _TILT)
    angles = turn + np.arange(corners) * 2 * np.pi / corners
    offsets = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    return np.round(centre + radius * offsets, 2)


def _ground(rng, size: int) -> np.ndarray:
    """Make a dark, noisy, unevenly lit background, (size, size, 3)."""
    light = rng.normal(0, _NOISE, (4, 4, 3))
    light = cv2.resize(light, (size, size), interpolation=cv2.INTER_CUBIC)
    return rng.uniform(40, 110) + light + rng.normal(0, _NOISE, light.shape)


def _place(rng, size: int, taken: List[Tuple[np.ndarray, float]]):
    """Find a centre and radius that keep clear of the others, or None."""
    for _ in range(20):
        radius = rng.uniform(*_RADIUS)
        centre = rng.uniform(radius + 1, size - radius - 1, 2)
        if all(
            np.hypot(*(centre - other)) > radius + reach + 2
            for other, reach in taken
        ):
            return centre, radius
    return None


def _draw(rng, size: int, names: List[str]) -> Tuple[np.ndarray, List[dict]]:
    """Draw an image (size, size, 3), uint8, and list its annotations."""
    image, taken, annotations = _ground(rng, size), [], []
    for name in names:
        place = _place(rng, size, taken)
        if place is None:
            continue
        taken.append(place)
        polygon = [_polygon(rng, name, *place).ravel().tolist()]
        # With COCO's own rasterisation image and mask agree exactly.
        (rle,) = coco_mask.frPyObjects(polygon, size, size)
        mask, colour = coco_mask.decode(rle) > 0, rng.uniform(130, 255, 3)
        image[mask] = colour + rng.normal(0, _NOISE, (mask.sum(), 3))
        annotations.append(
            dict(
                category_id=CLASSES.index(name) + 1,
                segmentation=polygon,
                area=float(coco_mask.area(rle)),
                bbox=coco_mask.toBbox(rle).tolist(),
                iscrowd=0,
            )
        )
    return image.clip(0, 255).astype(np.uint8), annotations


def draw_detection_split(
    root: Path, split: str, num_images: int, size: int = 128, seed: int = 0
) -> Dict:
    """Draw images of up to four objects, with COCO annotations.

    Writes ``<root>/<split>/*.png`` and ``<root>/annotations/<split>.json``.
    About one image in twenty has no object.

    Args:
        root: Folder of the data set.
        split: For example ``'train'``.
        num_images: Number of images.
        size: Height and width in pixels.
        seed: Seed of the random numbers.

    Returns:
        The annotations as written.
    """
    rng = np.random.default_rng(seed)
    folder = Path(root) / split
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        empty = rng.random() < 0.05
        count = 0 if empty else rng.integers(1, _MAX_OBJECTS + 1)
        image, objects = _draw(rng, size, rng.choice(CLASSES, count).tolist())
        file_name = f'{image_id:06d}.png'
        cv2.imwrite(str(folder / file_name), image)
        images.append(
            dict(id=image_id, file_name=file_name, height=size, width=size)
        )
        for annotation in objects:
            annotation.update(id=len(annotations) + 1, image_id=image_id)
            annotations.append(annotation)
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    coco = dict(
        info=dict(description=f'shapes, seed {seed}'),
        images=images,
        annotations=annotations,
        categories=categories,
    )
    path = Path(root) / 'annotations' / f'{split}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco))
    return coco


def draw_folder_split(
    root: Path, split: str, num_images: int, size: int = 64, seed: int = 0
) -> None:
    """Draw images of one object each, in a folder per class.

    Writes ``<root>/<split>/<class>/*.png``, the classes in turn. The arguments
    are those of :func:`draw_detection_split`.
    """
    rng = np.random.default_rng(seed)
    for index in range(num_images):
        name = CLASSES[index % len(CLASSES)]
        folder = Path(root) / split / name
        folder.mkdir(parents=True, exist_ok=True)
        image, _ = _draw(rng, size, [name])
        cv2.imwrite(str(folder / f'{index:06d}.png'), image)
