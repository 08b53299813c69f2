"""The model zoo as a page and as OpenMMLab's metafile."""

from pathlib import Path
from string import Template
from typing import Dict, List, Optional, Tuple

import yaml

from halvit_mm.apis.table import Table

from .models import Entry, Point, Zoo

_TEMPLATE = Path(__file__).resolve().parents[3] / 'docs/templates/model_zoo.md'
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


def _metadata(entry: Entry, dataset: str) -> Dict:
    """The entry of a model in OpenMMLab's metafile."""
    metadata = {'Training Data': dataset, 'Parameters': entry.stored}
    if entry.parts:
        total = entry.parts[1]
        metadata['FLOPs'] = total.macs + total.attention_macs
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
        if task in entry.paper.get('tasks', _METRICS[dataset])
    ]
    return {
        'Name': Path(entry.config).name,
        'In Collection': entry.paper['collection'],
        'Config': f'configs/{entry.config}.py',
        'Metadata': metadata,
        'Results': results,
    }


def write_metafile(zoo: Zoo, path: Path) -> None:
    """Write the models as OpenMMLab's metafiles have them.

    Args:
        zoo: From :func:`load_zoo`.
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
    models = [_metadata(entry, 'ImageNet-1k') for entry in zoo.classifiers]
    models += [_metadata(entry, 'COCO') for entry in zoo.detectors]
    content = dict(Collections=collections, Models=models)
    text = yaml.safe_dump(content, sort_keys=False)
    head = '# Written by tools/analysis_tools/model_zoo.py.\n'
    path.write_text(head + text)


def zoo_points(zoo: Zoo) -> Tuple[List[Point], List[Point], List[Point]]:
    """Collect points of millions of parameters and top-1 accuracy.

    Args:
        zoo: All models, from :func:`load_zoo`.

    Returns:
        Three lists: the models that are built here as their papers report
        them, other models as their papers report them, and the models that
        were measured here, counted with their head.
    """
    methods, ours = [], []
    for entry in zoo.classifiers:
        paper, measured = entry.paper, entry.measured
        if 'top1' in paper:
            printed = paper.get('params') or paper['params_backbone']
            methods.append((paper['name'], printed, paper['top1']))
        if 'top1' in measured:
            millions = entry.stored / 1e6
            ours.append((paper['name'], millions, measured['top1']))
    return methods, zoo.others, ours


def _cell(value: Optional[float], form: str = '') -> str:
    return '-' if value is None else format(value, form)


def _accuracies(scores: Dict) -> str:
    """Write top-1 / top-5."""
    if not {'top1', 'top5'} & scores.keys():
        return '-'
    return f'{_cell(scores.get("top1"))} / {_cell(scores.get("top5"))}'


def _link(entry: Entry) -> str:
    return f'[{entry.paper["name"]}](../configs/{entry.config}.py)'


def _classifier_row(entry: Entry) -> Dict[str, str]:
    backbone, total = entry.parts
    paper, measured = entry.paper, entry.measured
    macs = total.macs + total.attention_macs
    return {
        'model': _link(entry),
        'top-1 / top-5, ours': _accuracies(measured),
        'top-1 / top-5, paper': _accuracies(paper),
        'stored': f'{backbone.stored:,}',
        'file MB': f'{total.megabytes:.1f}',
        'multiply-adds G': f'{macs / 1e9:.2f}',
        'latency ms': _cell(measured.get('latency_ms')),
    }


def _counts_row(entry: Entry) -> Dict[str, str]:
    backbone, total = entry.parts
    paper = entry.paper
    return {
        'model': paper['name'],
        'backbone; paper, M': f'{backbone.stored:,}; '
        + _cell(paper.get('params_backbone'), '.1f'),
        'with head; paper, M': f'{total.stored:,}; '
        + _cell(paper.get('params'), '.1f'),
        'effective': f'{total.effective:,}',
        'multiply-adds G without attention; paper': (
            f'{total.macs / 1e9:.2f}; {_cell(paper.get("flops"))}'
        ),
        'source': paper['source'],
    }


def _detector_row(entry: Entry) -> Dict[str, str]:
    paper, measured = entry.paper, entry.measured
    return {
        'backbone': _link(entry),
        'box AP, ours': _cell(measured.get('box_ap')),
        'paper': _cell(paper.get('box_ap')),
        'mask AP, ours': _cell(measured.get('mask_ap')),
        'paper ': _cell(paper.get('mask_ap')),
        'stored': f'{entry.stored:,}',
        'paper, M': _cell(paper.get('params'), '.1f'),
        'effective': f'{entry.effective:,}',
        'source': paper['source'],
    }


def write_page(zoo: Zoo, path: Path, picture: str) -> None:
    """Write the tables in Markdown, with ``docs/templates/model_zoo.md``.

    Args:
        zoo: From :func:`load_zoo`.
        path: Markdown file.
        picture: Path of the picture, seen from the page.
    """
    sizes = {' x '.join(map(str, entry.size)) for entry in zoo.detectors}
    text = Template(_TEMPLATE.read_text()).substitute(
        classifiers=Table([_classifier_row(e) for e in zoo.classifiers]),
        counts=Table([_counts_row(e) for e in zoo.classifiers]),
        detectors=Table([_detector_row(e) for e in zoo.detectors]),
        device=zoo.device,
        picture=picture,
        sizes=' or '.join(sorted(sizes)),
    )
    path.write_text(text)
