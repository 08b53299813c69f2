"""Detections beside the ground truth."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pycocotools import mask as coco_mask

from ..datasets.coco_check import read_coco, read_results, require_below


def _mask(annotation: dict, size: Tuple[int, int]) -> Optional[np.ndarray]:
    """The mask of an annotation, (H, W), or None where it has none."""
    segmentation = annotation.get('segmentation')
    if isinstance(segmentation, list):  # polygons, three corners at least
        segmentation = [polygon for polygon in segmentation if polygon[5:]]
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        rles = coco_mask.frPyObjects(segmentation, *size)
    elif isinstance(segmentation['counts'], list):  # not compressed
        rles = [coco_mask.frPyObjects(segmentation, *segmentation['size'])]
    else:
        rles = [segmentation]
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


def _draw(
    axes: Axes, image: np.ndarray, names: Dict[int, str], objects: List[dict]
) -> int:
    """Draw an image and what is said to be on it.

    Args:
        axes: To draw on.
        image: (H, W, 3), RGB, 0 to 1.
        names: Category -> name.
        objects: Annotations or detections.

    Returns:
        Number of objects that have neither a box nor a mask.
    """
    image, order, without = image.copy(), sorted(names), 0
    for annotation in objects:
        category = annotation['category_id']
        colour = colormaps['tab10'](order.index(category) % 10)[:3]
        mask, box = _mask(annotation, image.shape[:2]), annotation.get('bbox')
        if mask is not None:
            image[mask] = 0.5 * image[mask] + 0.5 * np.array(colour)
            rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            box = box or coco_mask.toBbox(rle).tolist()
        if not box:
            without += 1
            continue
        x, y, width, height = box
        axes.add_patch(
            Rectangle((x, y), width, height, fill=False, ec=colour, lw=1.2)
        )
        text = names[category]
        if 'score' in annotation:
            text += f' {annotation["score"]:.2f}'
        label = dict(facecolor=colour, edgecolor='none', pad=0.6)
        style = dict(fontsize=6, va='bottom', color='white', bbox=label)
        axes.text(x, y - 1, text, **style)
    axes.imshow(image)
    axes.set_axis_off()
    return without


def read_image(path: Path, size: tuple) -> Optional[np.ndarray]:
    """An image, (H, W, 3), RGB, 0 to 1; None if it is missing or broken.

    Args:
        path: Of the file.
        size: Height and width of the annotations; each may be None.

    Raises:
        ValueError: If the image has another size.
    """
    # Annotations may be of the image before or after its EXIF orientation.
    for orientation in (0, cv2.IMREAD_IGNORE_ORIENTATION):
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | orientation
        image = cv2.imread(str(path), flags)
        if image is None:
            return None
        if None in size or image.shape[:2] == size:
            # More than 8 bits: as bright as the picture allows.
            top = 255 if image.dtype == np.uint8 else max(image.max(), 1e-6)
            return (image[..., ::-1] / top).clip(0, 1).astype(np.float32)
    raise ValueError(
        f'{path} is {image.shape[0]} x {image.shape[1]} pixels (height x '
        f'width), but {size[0]} x {size[1]} in the annotations'
    )


def _by_image(objects: List[dict]) -> Dict[int, List[dict]]:
    found = defaultdict(list)
    for one in objects:
        found[one['image_id']].append(one)
    return found


def draw_detections(
    ann_file: str,
    image_dir: str,
    result_file: str,
    out: str,
    num_images: int = 6,
    score_thr: float = 0.5,
) -> Dict[str, int]:
    """Draw ground truth (top) and predictions (below) of some images.

    An object is drawn as a box, and as a mask where it has one.

    Args:
        ann_file: COCO annotations.
        image_dir: Folder of the images.
        result_file: Detections as COCO's results, of boxes or masks.
        out: PNG file.
        num_images: Images to draw, evenly spread over those with objects.
        score_thr: Least score of a detection to be drawn.

    Returns:
        What could not be drawn -> how many of them.

    Raises:
        DataError: If one of the files cannot be used, or they are of
            different data.
        ValueError: If no image can be read.
    """
    file = read_coco(ann_file, image_dir)
    require_below(file, image_dir)
    truth = _by_image(file.annotations)
    found = _by_image(read_results(result_file, file))
    names = {category['id']: category['name'] for category in file.categories}
    infos = {image['id']: image for image in file.images}
    ids = sorted(truth) or sorted(infos)
    images, skipped = {}, Counter()
    for img_id in ids[:: max(1, len(ids) // num_images)][:num_images]:
        info = infos[img_id]
        path = Path(image_dir) / info['file_name']
        image = read_image(path, (info.get('height'), info.get('width')))
        if image is None:
            skipped['missing or broken images'] += 1
        else:
            images[img_id] = image
    if not images:
        raise ValueError(f'no image of {ann_file} can be read in {image_dir}')
    figure = Figure(
        figsize=(2.3 * len(images), 4.9), layout='constrained', dpi=110
    )
    grid = figure.subplots(2, len(images), squeeze=False)
    for column, (img_id, image) in zip(grid.T, images.items()):
        detections = [d for d in found[img_id] if d['score'] >= score_thr]
        objects = (truth[img_id], detections)
        skipped['objects without box and mask'] += sum(
            _draw(axes, image, names, part)
            for axes, part in zip(column, objects)
        )
    grid[0, 0].set_title('ground truth', fontsize=9, loc='left')
    grid[1, 0].set_title('prediction', fontsize=9, loc='left')
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return +skipped
