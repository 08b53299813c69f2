"""COCO's average precision, of the objects that training sees."""

import logging
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from mmdet.datasets import CocoDataset
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from ..registry import METRICS
from .coco import CheckedCOCO
from .same_objects import require_same_objects

try:  # the same figures, many times faster
    import faster_coco_eval  # noqa: F401
    from mmdet.evaluation import FasterCocoMetric as _HostMetric
except ImportError:  # the extra `coco`, or the older host
    from mmdet.evaluation import CocoMetric as _HostMetric


# of the host's names of average precisions
_ENDS = ('', '_50', '_75', '_s', '_m', '_l')


@METRICS.register_module()
class CocoMetric(_HostMetric):
    """The host's COCO metric on annotations that are checked and mended.

    It evaluates the images that it is given, for example where the data set
    has ``indices``, and refuses those of another data set.

    Args:
        ann_file: COCO annotations; by default those of the data set, which
            are read before the first step.
        kwargs: As for ``mmdet.CocoMetric``.

    Raises:
        DataError: If the annotations cannot be used, or lack masks.
        ValueError: If ``proposal_nums`` does not suit COCO's averages.
    """

    def __init__(self, ann_file: Optional[str] = None, **kwargs) -> None:
        kwargs.pop('sort_categories', None)  # classes are found by name
        super().__init__(**kwargs)
        nums = self.proposal_nums
        if len(nums) != 3 or 100 not in nums or sorted(nums) != nums:
            raise ValueError(
                f'proposal_nums={tuple(nums)}: COCO averages over three '
                'rising numbers with 100 among them, as (100, 300, 1000)'
            )
        if ann_file is not None:
            self._read(ann_file)

    def _read(self, ann_file: str) -> None:
        with get_local_path(ann_file, backend_args=self.backend_args) as path:
            if not Path(path).is_file():
                raise FileNotFoundError(
                    f'there is no annotation file {ann_file} for the '
                    'evaluator: without its ann_file it takes that of the '
                    'data set'
                )
            self._coco_api = CheckedCOCO(path, copies=True)
        if 'segm' in self.metrics and not self.format_only:
            self._coco_api.file.require_masks()

    def check_dataset(self, dataset: Any) -> None:
        """Compare the images and classes with those of a data set.

        Args:
            dataset: What is evaluated.

        Raises:
            DataError: If there are no objects to compare detections with.
            ValueError: If the evaluator has others, or the data set is of
                several files.
        """
        if hasattr(dataset, 'datasets'):
            raise ValueError(
                f'a {type(dataset).__name__} of {len(dataset.datasets)} data '
                'sets is evaluated by one annotation file: write them into '
                'one file, or evaluate one at a time'
            )
        if self._coco_api is None and isinstance(dataset, CocoDataset):
            self._read(dataset.ann_file)
        if self._coco_api is None:
            return
        if not self.format_only:
            self._coco_api.file.require_objects()
        self._coco_api.getCatIds(catNms=dataset.metainfo['classes'])
        for index in range(len(dataset)):
            self._check_image(dataset.get_data_info(index))
        require_same_objects(dataset, self._coco_api)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the detections of a batch, as the host does."""
        if self._coco_api is not None:
            for sample in data_samples:
                self._check_image(sample)
        super().process(data_batch, data_samples)

    def _check_image(self, info: dict) -> None:
        number, path = info['img_id'], info.get('img_path') or ''
        image = self._coco_api.imgs.get(number)
        name = image and image['file_name']
        path = path.replace('\\', '/')
        if name is None or (path and not f'/{path}'.endswith(f'/{name}')):
            there = 'does not have' if name is None else f'calls {name}'
            raise ValueError(
                f'the evaluator and the data set differ: image {number}, '
                f'{path or "without a path"}, is one that '
                f'{self._coco_api.file.path} {there}: give ann_file of the '
                'data set to the evaluator'
            )

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Evaluate the images that were seen."""
        if self._coco_api is not None:
            ids = [prediction['img_id'] for _, prediction in results]
            self.img_ids = list(dict.fromkeys(ids))
            total = len(self._coco_api.imgs)
            if len(self.img_ids) < total:
                print_log(
                    f'evaluated on {len(self.img_ids)} of the {total} images '
                    f'of {self._coco_api.file.path}',
                    logger='current',
                    level=logging.WARNING,
                )
            classes = self.dataset_meta['classes']
            self._label_ids = self._coco_api.getCatIds(catNms=classes)
            # sorted as the evaluation sorts them, for the table of classes
            self.cat_ids = sorted(self._label_ids)
        scores = super().compute_metrics(results)
        if not scores and not self.format_only:  # no detection at all
            kinds = [k for k in self.metrics if k in ('bbox', 'segm')]
            names = [f'{k}_mAP{end}' for k in kinds for end in _ENDS]
            scores.update(dict.fromkeys(names, 0.0))
        return scores

    def results2json(self, results, outfile_prefix: str) -> Dict[str, str]:
        """Write the detections, each label as the id of its category."""
        if self._coco_api is None or not hasattr(self, '_label_ids'):
            return super().results2json(results, outfile_prefix)
        self.cat_ids, kept = self._label_ids, self.cat_ids
        try:
            return super().results2json(results, outfile_prefix)
        finally:
            self.cat_ids = kept
