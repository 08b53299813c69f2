"""Annotations and results that a stranger might give away."""

import json
from pathlib import Path
from typing import Callable

from pycocotools import mask as coco_mask

from .hostile_files import CASES, HUGE, Command, case, predict, train

DRAW = 'tools/analysis_tools/draw_detections.py'
CHECK = 'tools/dataset_converters/check_dataset.py'


def draw(folder: Path, clean: Path, ann=None, results=None) -> Command:
    ann = str(ann or clean / 'data/annotations/val.json')
    results = str(results or clean / 'results.json')
    out = ['--out', str(folder / 'out.png'), '--score-thr', '0']
    return [DRAW, ann, str(clean / 'data/val'), results, *out]


def check(folder: Path, clean: Path, path: Path) -> Command:
    out = str(folder / 'fixed.json')
    return [CHECK, str(path), str(clean / 'data/val'), '--fix', out]


def change(folder: Path, clean: Path, edit: Callable) -> Path:
    """The clean annotations after a change."""
    content = json.loads((clean / 'data/annotations/val.json').read_text())
    edit(content)
    path = folder / 'evil.json'
    path.write_text(json.dumps(content))
    return path


def _with_name(name: str, reader: Callable):
    def of(folder, clean):
        def edit(content):
            for image in content['images']:
                image['file_name'] = names[image['file_name']]

        val = clean / 'data/val'
        names = {
            path.name: f'{folder}/{path.name}'
            if name == 'absolute'
            else f'../../../{folder.name}/{path.name}'
            for path in val.iterdir()
        }
        for path in val.iterdir():  # outside of the folder that is named
            (folder / path.name).write_bytes(path.read_bytes())
        return reader(folder, clean, change(folder, clean, edit))

    case(f'file_name {name}: {reader.__name__}', reader is check)(of)


def predict_on(folder, clean, path):
    images = ['--images', clean / 'data/val']
    return predict(folder, clean, clean / 'run', path, *images)


def train_on(folder, clean, path):
    key = 'train_dataloader.dataset.ann_file'
    return train(folder, clean, f'{key}={path}')


for _reader in (predict_on, train_on, draw, check):
    for _kind in ('absolute', 'with ../'):
        _with_name(_kind, _reader)


def _with_mask(name: str, reader: Callable, rle: dict, size: bool = False):
    def of(folder, clean):
        def edit(content):
            content['annotations'][0]['segmentation'] = rle
            if size:
                content['images'][0].update(width=HUGE, height=HUGE)

        return reader(folder, clean, change(folder, clean, edit))

    CASES[f'{name} in annotations: {reader.__name__}'] = of


#: Each run fits into 32 bits, as pycocotools has them.
_RUNS = [0, 4 * 10**9, 0, 4 * 10**9, 0, 2 * 10**9]
_LISTED = dict(size=[HUGE, HUGE], counts=_RUNS)
_ALL = coco_mask.frPyObjects(_LISTED, HUGE, HUGE)
_ALL['counts'] = _ALL['counts'].decode()
for _reader in (draw, train_on, check):
    _with_mask('RLE of 100000 x 100000', _reader, _ALL)
_with_mask('RLE of 100000 x 100000, the image too', draw, _ALL, True)


def _with_results(name: str, edit: Callable):
    @case(f'{name} in results: draw_detections')
    def _(folder, clean):
        results = json.loads((clean / 'results.json').read_text())
        edit(results)
        path = folder / 'evil.json'
        path.write_text(json.dumps(results))
        return draw(folder, clean, results=path)


_with_results(
    'RLE of 100000 x 100000', lambda r: r[0].update(segmentation=_ALL)
)
_with_results(
    'counts that are cut', lambda r: r[0]['segmentation'].update(counts='zzz')
)
_with_results('scores as text', lambda r: r[0].update(score='0.9'))
_with_results('an unknown category', lambda r: r[0].update(category_id=77))
_with_results('a box of 10^300', lambda r: r[0].update(bbox=[1e300] * 4))


def _deep(name: str, reader: Callable):
    @case(f'deep nesting: {name}')
    def _(folder, clean):
        path = folder / 'evil.json'
        path.write_text('[' * 200_000 + ']' * 200_000)
        return reader(folder, clean, path)


_deep('results', lambda f, c, path: draw(f, c, results=path))
_deep('annotations of check_dataset', check)
_deep('annotations of draw_detections', draw)
_deep('annotations of predict', predict_on)


@case('a number of 10^6 digits: draw_detections')
def _(folder, clean):
    path = folder / 'evil.json'
    path.write_text(f'[{{"score": {"9" * 10**6}}}]')
    return draw(folder, clean, results=path)
