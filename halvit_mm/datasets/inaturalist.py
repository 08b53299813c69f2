"""iNaturalist, for which mmpretrain has no data set."""

from pathlib import Path
from typing import List

from mmpretrain.datasets import BaseDataset

from ..registry import DATASETS
from .coco_check.missing import leaves
from .coco_check.values import read_json


@DATASETS.register_module()
class INaturalist(BaseDataset):
    """Images of species with a JSON file of annotations as in COCO.

    The folder of iNaturalist 2018 (8,142 species) or 2019 (1,010)::

        data_root
        ├── train2018.json
        ├── val2018.json
        └── train_val2018/...

    Args:
        data_root: The folder above.
        split: Name of the JSON file without its suffix.
        kwargs: Arguments of mmpretrain's ``BaseDataset``.

    Raises:
        FileNotFoundError: If there is no such JSON file.
        ValueError: If the file does not hold such annotations.
    """

    def __init__(self, data_root: str, split: str, **kwargs) -> None:
        super().__init__(
            ann_file=f'{split}.json', data_root=data_root, **kwargs
        )

    def load_data_list(self) -> List[dict]:
        """Read ``img_path`` and ``gt_label`` of each image."""
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(
                f'there is no {self.ann_file}: data_root is the folder with '
                'train2018.json, or the like'
            )
        content, _ = read_json(self.ann_file)
        missing = {'images', 'annotations', 'categories'} - set(content)
        if missing:
            raise ValueError(f'{self.ann_file} lacks {sorted(missing)}')
        # Labels are the ranks of the ids, whatever their order in the file.
        ids = sorted(category['id'] for category in content['categories'])
        label_of = {id_: label for label, id_ in enumerate(ids)}
        paths = {im['id']: im['file_name'] for im in content['images']}
        for name in paths.values():
            if leaves(self.data_root, name):
                raise ValueError(
                    f'{self.ann_file}: {name} leaves {self.data_root}'
                )
        root = Path(self.data_root)
        return [
            dict(
                img_path=str(root / paths[annotation['image_id']]),
                gt_label=label_of[annotation['category_id']],
            )
            for annotation in content['annotations']
        ]
