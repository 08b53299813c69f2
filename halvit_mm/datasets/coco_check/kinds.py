"""Annotations of other tasks than detection, told by what they have."""

from typing import List, Optional

from .file import CocoFile

_INSTANCES = 'take the file of instances, such as instances_val2017.json'
#: Entry of all annotations, none of which has a box or mask -> what it means.
_OTHERS = {
    'segments_info': 'it is of panoptic segmentation, whose masks are PNG '
    f'files: {_INSTANCES}, or write one by panoptic2detection_coco_format.py '
    "of COCO's panopticapi",
    'caption': f'it has captions of images, and no objects: {_INSTANCES}',
    'keypoints': 'its objects have keypoints, but neither boxes nor masks: '
    'add "bbox", [x, y, width, height] in pixels, to each',
}


def describe_kind(annotations: List[dict]) -> Optional[str]:
    """Write which task annotations are of, with the cure; None if detection.

    Args:
        annotations: As they are read.
    """
    for name, sentence in _OTHERS.items():
        if annotations and all(
            name in a and not (a.get('bbox') or a.get('segmentation'))
            for a in annotations
        ):
            return sentence
    return None


def check_keypoints(file: CocoFile) -> None:
    """Say that the boxes and masks of a file of keypoints are used."""
    if number := sum(map(bool, file.column('keypoints'))):
        file.findings.warn(
            f'it is a file of keypoints: {number} objects have some, which '
            'are not used; their boxes and masks are'
        )
