"""The model zoo: two tables, filled by the configs and by measurements."""

import json
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import yaml
from mmengine.config import Config

from .config import load_config
from .fake_data import image_size
from .latency import stopwatch, time_in_turns
from .model_info import PartInfo, build_model, count_parameters, model_info

__all__ = [
    'Classifier',
    'Detector',
    'Zoo',
    'load_zoo',
    'measure_zoo',
    'write_metafile',
    'write_page',
    'zoo_points',
]

_PAPERS, _MEASURED = 'papers.yml', 'measured.yml'
# data set -> task -> our name of a score -> OpenMMLab's
_METRICS = {
    'ImageNet-1k': {
        'Image Classification': {
            'top1': 'Top 1 Accuracy',
            'top5': 'Top 5 Accuracy',
        }
    },
    'COCO': {
        'Object Detection': {'box_ap': 'box AP'},
        'Instance Segmentation': {'mask_ap': 'mask AP'},
    },
}

Point = Tuple[str, float, float]


class Classifier(NamedTuple):
    """One model of ImageNet.

    Attributes:
        config: Its path below ``configs``, without ``.py``.
        paper: ``name``, ``collection``, ``source`` and what the paper
            reports.
        measured: What was measured here.
        backbone: Its sizes, without the head.
        total: Sizes with the head.
    """

    config: str
    paper: Dict
    measured: Dict
    backbone: PartInfo
    total: PartInfo


class Detector(NamedTuple):
    """One model of COCO.

    Attributes:
        config: Its path below ``configs``, without ``.py``.
        paper: As a classifier's.
        measured: What was measured here.
        size: Height and width in pixels that it tests with.
        stored: Parameters of all its parts, each counted once.
        effective: The same, each counted at every use.
    """

    config: str
    paper: Dict
    measured: Dict
    size: Tuple[int, int]
    stored: int
    effective: int


class Zoo(NamedTuple):
    """All models, in the order of ``papers.yml``.

    Attributes:
        classifiers: Of ImageNet.
        detectors: Of COCO.
        collections: ``name, title, url, architecture`` of each paper.
        others: Models that are not built here, as the papers report them.
    """

    classifiers: List[Classifier]
    detectors: List[Detector]
    collections: List[Dict]
    others: List[Point]


def _read(configs: Path, name: str) -> Dict:
    return yaml.safe_load((configs / 'zoo' / name).read_text()) or {}


def _load(configs: Path, name: str) -> Config:
    return load_config(f'{configs / name}.py', read_data=False)


def load_zoo(configs: Path) -> Zoo:
    """Build every model and count.

    Args:
        configs: Folder of the configs, with ``zoo/papers.yml`` and
            ``zoo/measured.yml``.

    Returns:
        The models and what the papers say.
    """
    papers, measured = _read(configs, _PAPERS), _read(configs, _MEASURED)
    classifiers, detectors = [], []
    for paper in papers['models']:
        name = paper['config']
        parts = {row.name: row for row in model_info(_load(configs, name))}
        known = (name, paper, measured.get(name, {}))
        parts = (parts['backbone'], parts['total'])
        classifiers.append(Classifier(*known, *parts))
    for paper in papers['detectors']:
        name = paper['config']
        cfg = _load(configs, name)
        known = (name, paper, measured.get(name, {}))
        counts = count_parameters(build_model(cfg))
        detectors.append(Detector(*known, image_size(cfg), *counts))
    others = [tuple(point) for point in papers['others']]
    return Zoo(classifiers, detectors, papers['collections'], others)


def measure_zoo(
    configs: Path,
    repeats: int,
    make_timer: Callable[[Config], Callable[[], float]] = stopwatch,
) -> None:
    """Time the classifiers and keep it in ``zoo/measured.yml``.

    They take turns, so that a slow minute of the machine is one of all
    models. Those whose backbone and head have the same configs are one model
    and share a figure. All models are in memory at a time.

    Args:
        configs: As for :func:`load_zoo`.
        repeats: Turns of each model, of three passes; the median counts.
        make_timer: Config -> what returns the seconds of a pass.
    """
    names, timers = {}, {}
    for paper in _read(configs, _PAPERS)['models']:
        cfg = _load(configs, paper['config'])
        parts = [cfg.model.backbone, cfg.model.head]
        key = json.dumps(parts, sort_keys=True, default=repr)
        names.setdefault(key, []).append(paper['config'])
        if key not in timers:
            timers[key] = make_timer(cfg)
    seconds = time_in_turns(timers, repeats)
    measured = _read(configs, _MEASURED)
    for key, sharers in names.items():
        latency = round(seconds[key] * 1e3)
        for name in sharers:
            measured.setdefault(name, {})['latency_ms'] = latency
    path = configs / 'zoo' / _MEASURED
    comment = [x for x in path.read_text().splitlines() if x.startswith('#')]
    path.write_text('\n'.join([*comment, yaml.safe_dump(measured)]))


def _model(
    entry: Union[Classifier, Detector], dataset: str, **metadata
) -> Dict:
    results = [
        dict(
            Task=task,
            Dataset=dataset,
            Metrics={
                title: entry.measured[key]
                for key, title in titles.items()
                if key in entry.measured
            },
        )
        for task, titles in _METRICS[dataset].items()
    ]
    return {
        'Name': Path(entry.config).name,
        'In Collection': entry.paper['collection'],
        'Config': f'configs/{entry.config}.py',
        'Metadata': {'Training Data': dataset, **metadata},
        'Results': results,
    }


def write_metafile(zoo: Zoo, path: Path) -> None:
    """Write the models as OpenMMLab's metafiles have them.

    Args:
        zoo: Of :func:`load_zoo`.
        path: YAML file.
    """
    collections = [
        dict(
            Name=paper['name'],
            Metadata=dict(Architecture=paper['architecture']),
            Paper=dict(Title=paper['title'], URL=paper['url']),
            README='docs/model_zoo.md',
        )
        for paper in zoo.collections
    ]
    models = [
        _model(
            entry,
            'ImageNet-1k',
            Parameters=entry.total.stored,
            FLOPs=entry.total.macs + entry.total.attention_macs,
        )
        for entry in zoo.classifiers
    ]
    models += [
        _model(entry, 'COCO', Parameters=entry.stored)
        for entry in zoo.detectors
    ]
    content = dict(Collections=collections, Models=models)
    text = yaml.safe_dump(content, sort_keys=False)
    head = '# Written by tools/analysis_tools/model_zoo.py.\n'
    path.write_text(head + text)


def zoo_points(zoo: Zoo) -> Tuple[List[Point], List[Point], List[Point]]:
    """Millions of parameters and top-1.

    Args:
        zoo: Of :func:`load_zoo`.

    Returns:
        As the papers report them, of the models built here and of others,
        and as measured here, with the head.
    """
    methods, ours = [], []
    for entry in zoo.classifiers:
        paper, measured = entry.paper, entry.measured
        if 'top1' in paper:
            printed = paper.get('params') or paper['params_backbone']
            methods.append((paper['name'], printed, paper['top1']))
        if 'top1' in measured:
            millions = entry.total.stored / 1e6
            ours.append((paper['name'], millions, measured['top1']))
    return methods, zoo.others, ours


def _cell(value: Optional[float], form: str = '') -> str:
    return '-' if value is None else format(value, form)


def _accuracies(scores: Dict) -> str:
    """Returns: Top-1 / top-5."""
    if not {'top1', 'top5'} & scores.keys():
        return '-'
    return f'{_cell(scores.get("top1"))} / {_cell(scores.get("top5"))}'


def _link(entry: Union[Classifier, Detector]) -> str:
    return f'[{entry.paper["name"]}](../configs/{entry.config}.py)'


def _classifier_row(entry: Classifier) -> Dict[str, str]:
    total, paper, measured = entry.total, entry.paper, entry.measured
    macs = f'{total.macs / 1e9:.2f} / '
    macs += f'{(total.macs + total.attention_macs) / 1e9:.2f}'
    return {
        'model': _link(entry),
        'backbone, stored': f'{entry.backbone.stored:,}',
        'backbone, paper, M': _cell(paper.get('params_backbone'), '.1f'),
        'with head, stored': f'{total.stored:,}',
        'with head, paper, M': _cell(paper.get('params'), '.1f'),
        'effective': f'{total.effective:,}',
        'file MB': f'{total.megabytes:.1f}',
        'multiply-adds G, without / with attention matmuls': macs,
        'multiply-adds, paper': _cell(paper.get('flops')),
        'CPU latency ms': _cell(measured.get('latency_ms')),
        'top-1 / top-5, ours': _accuracies(measured),
        'top-1 / top-5, paper': _accuracies(paper),
        'source': paper['source'],
    }


def _detector_row(entry: Detector) -> Dict[str, str]:
    paper, measured = entry.paper, entry.measured
    return {
        'backbone': _link(entry),
        'detector, stored': f'{entry.stored:,}',
        'detector, paper, M': _cell(paper.get('params'), '.1f'),
        'effective': f'{entry.effective:,}',
        'box AP, ours': _cell(measured.get('box_ap')),
        'mask AP, ours': _cell(measured.get('mask_ap')),
        'box AP, paper': _cell(paper.get('box_ap')),
        'mask AP, paper': _cell(paper.get('mask_ap')),
        'source': paper['source'],
    }


def _table(rows: List[Dict[str, str]]) -> str:
    columns = list(rows[0])
    lines = [columns, ['---'] * len(columns), *(row.values() for row in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_page(zoo: Zoo, path: Path, picture: str) -> None:
    """Write the tables as Markdown.

    Args:
        zoo: Of :func:`load_zoo`.
        path: Markdown file.
        picture: Path of the picture, from the page.
    """
    sizes = {' x '.join(map(str, entry.size)) for entry in zoo.detectors}
    path.write_text(
        f"""# Model zoo

ImageNet-1K, 224 px. "Effective" counts each matrix at every use: what the
same layers need without tying or sharing. A `-` under "ours" is a figure that
nobody has measured yet with this code; the config fills it:
`tools/dist_train.sh CONFIG 4`. Latency: one image, float32, two CPU cores; the
models in turns, one figure for those whose backbone and head are the same.

{_table([_classifier_row(entry) for entry in zoo.classifiers])}

HaLViT's paper does not say whether it counts the head; "paper, M", in
millions, stands in the column of ours that it agrees with. Its Tables 3, 4 and
9 count without the head what is tied, and with it the models of others;
Table 8 gives HaLViT-M with the head. HaLViT-M* cannot have the 9.0 M that
Table 8 prints beside it: with the paper's dimensions its matrices alone are
10,027,008. The paper's multiply-adds include the attention matmuls for T and
leave them out for M.

![accuracy against parameters]({picture})

Points of papers stand at the parameters that they print, with the head where
there are both; ours are counted with the head.

## COCO

Mask R-CNN after 24 epochs, val2017. Parameters of the whole detector, as
`tools/analysis_tools/model_info.py` counts them, for images of
{' or '.join(sorted(sizes))} pixels; HaLViT's paper does not describe its neck.

{_table([_detector_row(entry) for entry in zoo.detectors])}

Written by `python tools/analysis_tools/model_zoo.py` (`--latency` measures
again) from the configs, `configs/zoo/papers.yml` and
`configs/zoo/measured.yml`.
"""
    )
