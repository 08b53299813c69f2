"""mmdet's COCO data set with checks before the first training step."""

from pathlib import Path
from typing import List

from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmdet.datasets.api_wrappers import COCO

from ..registry import DATASETS


class _CheckedCOCO(COCO):
    """COCO's index, to which an unknown class name is an error."""

    def get_cat_ids(self, cat_names=(), sup_names=(), cat_ids=()):
        wanted = list(cat_names)
        ids = super().get_cat_ids(wanted, list(sup_names), list(cat_ids))
        found = [self.cats[i]['name'] for i in ids]
        if wanted and found != wanted:
            raise ValueError(_class_message(wanted, self.cats.values()))
        return ids


def _class_message(wanted: List[str], categories) -> str:
    names = [category['name'] for category in categories]
    unknown = [name for name in wanted if name not in names]
    problem = (
        f'the annotation file has no classes {unknown}'
        if unknown
        else 'the classes are in another order in the annotation file'
    )
    return (
        f'{problem}.\n  classes of the config:   {wanted}\n'
        f'  classes of the JSON:     {names}\n'
        'Take them from the JSON with `--cfg-options classes=auto`, which '
        'also sets num_classes in every head'
    )


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """COCO detection as mmdet reads it, with errors that name the cause.

    The arguments are those of ``mmdet.CocoDataset``.

    Raises:
        FileNotFoundError: If the annotation file, the image folder or its
            first image is missing.
        ValueError: If the classes are not those of the annotation file, or
            in another order, which would exchange labels.
    """

    COCOAPI = _CheckedCOCO

    def load_data_list(self) -> List[dict]:
        """Read the annotations as mmdet does."""
        folder = self.data_prefix['img']
        if not Path(self.ann_file).is_file():
            raise _missing(f'there is no annotation file {self.ann_file}')
        if not Path(folder).is_dir():
            raise _missing(f'there is no image folder {folder}')
        data_list = super().load_data_list()
        if data_list and not Path(data_list[0]['img_path']).is_file():
            image = data_list[0]['img_path']
            raise _missing(
                f'{self.ann_file} names {image}, which does not exist'
            )
        return data_list


def _missing(what: str) -> FileNotFoundError:
    return FileNotFoundError(
        f'{what}; set the folder with `--cfg-options data_root=...`; it holds '
        'the annotation files and image folders that the config names'
    )
