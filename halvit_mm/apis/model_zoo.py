"""The model zoo: one table, filled by the configs and by measurements."""

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import yaml

from .config import load_config
from .model_info import PartInfo, measure_latency, model_info

__all__ = ['Entry', 'load_zoo', 'measure_zoo', 'write_metafile', 'write_page']

_PAPERS, _MEASURED = 'papers.yml', 'measured.yml'


class Entry(NamedTuple):
    """One model.

    Attributes:
        config: Its path below ``configs``, without ``.py``.
        paper: ``name``, ``source`` and what the paper reports.
        backbone: Its sizes, without the head.
        total: Sizes with the head.
        measured: What was measured here.
    """

    config: str
    paper: Dict
    backbone: PartInfo
    total: PartInfo
    measured: Dict


def _read(path: Path) -> Dict:
    return yaml.safe_load(path.read_text()) or {}


def load_zoo(configs: Path) -> List[Entry]:
    """Build every model and count.

    Args:
        configs: Folder of the configs, with ``zoo/papers.yml`` and
            ``zoo/measured.yml``.

    Returns:
        The models in the order of ``papers.yml``.
    """
    measured = _read(configs / 'zoo' / _MEASURED)
    entries = []
    for paper in _read(configs / 'zoo' / _PAPERS)['models']:
        name = paper['config']
        rows = model_info(load_config(f'{configs / name}.py', read_data=False))
        parts = {row.name: row for row in rows}
        entries.append(
            Entry(
                name,
                paper,
                parts['backbone'],
                parts['total'],
                measured.get(name, {}),
            )
        )
    return entries


def measure_zoo(configs: Path, entries: List[Entry], repeats: int) -> None:
    """Time one image on the CPU and keep it in ``zoo/measured.yml``.

    Args:
        configs: As for :func:`load_zoo`.
        entries: Of :func:`load_zoo`.
        repeats: Passes that are timed.
    """
    path = configs / 'zoo' / _MEASURED
    comment = [x for x in path.read_text().splitlines() if x.startswith('#')]
    measured = _read(path)
    for entry in entries:
        cfg = load_config(f'{configs / entry.config}.py', read_data=False)
        seconds = measure_latency(cfg, repeats=repeats)
        values = measured.setdefault(entry.config, {})
        values['latency_ms'] = round(seconds * 1e3)
    text = yaml.safe_dump(measured)
    path.write_text('\n'.join([*comment, text]))


def write_metafile(entries: List[Entry], path: Path) -> None:
    """Write the models as OpenMMLab's metafiles have them.

    Args:
        entries: Of :func:`load_zoo`.
        path: YAML file.
    """
    models = []
    for entry in entries:
        metrics = {
            title: entry.measured[key]
            for key, title in (
                ('top1', 'Top 1 Accuracy'),
                ('top5', 'Top 5 Accuracy'),
            )
            if key in entry.measured
        }
        results = dict(
            Dataset='ImageNet-1k', Task='Image Classification', Metrics=metrics
        )
        models.append(
            dict(
                Name=Path(entry.config).name,
                Config=f'configs/{entry.config}.py',
                Metadata=dict(
                    Parameters=entry.total.stored,
                    FLOPs=entry.total.macs + entry.total.attention_macs,
                ),
                Results=[results] if metrics else [],
            )
        )
    text = yaml.safe_dump(dict(Models=models), sort_keys=False)
    head = '# Written by tools/analysis_tools/model_zoo.py.\n'
    path.write_text(head + text)


def _cell(value: Optional[float], form: str = '') -> str:
    return '-' if value is None else format(value, form)


def _row(entry: Entry) -> List[str]:
    total, paper, measured = entry.total, entry.paper, entry.measured
    macs = f'{total.macs / 1e9:.2f} / '
    macs += f'{(total.macs + total.attention_macs) / 1e9:.2f}'
    return [
        f'[{paper["name"]}](../configs/{entry.config}.py)',
        f'{entry.backbone.stored:,}',
        f'{total.stored:,}',
        f'{total.effective:,}',
        _cell(paper.get('params'), '.1f'),
        f'{total.megabytes:.1f}',
        macs,
        _cell(paper.get('flops')),
        _cell(measured.get('latency_ms')),
        _cell(measured.get('top1')),
        _cell(paper.get('top1')),
        paper['source'],
    ]


_COLUMNS = (
    'model',
    'backbone, stored',
    'with head, stored',
    'effective',
    'paper, millions',
    'file MB',
    'multiply-adds G, without / with attention matmuls',
    'multiply-adds, paper',
    'CPU latency ms',
    'top-1, ours',
    'top-1, paper',
    'source',
)


def write_page(entries: List[Entry], path: Path, picture: str) -> None:
    """Write the table as Markdown.

    Args:
        entries: Of :func:`load_zoo`.
        path: Markdown file.
        picture: Path of the picture, from the page.
    """
    rows = [_COLUMNS, ['---'] * len(_COLUMNS), *map(_row, entries)]
    table = '\n'.join(f'| {" | ".join(row)} |' for row in rows)
    path.write_text(
        f"""# Model zoo

ImageNet-1K, 224 px. "Effective" counts each matrix at every use: what the
same layers need without tying or sharing. A `-` under "ours" is a figure that
nobody has measured yet with this code; the config fills it:
`tools/dist_train.sh CONFIG 4`. Latency: one image, float32, two CPU cores.

{table}

HaLViT-M* cannot have the 9.0 M that its paper prints: with the paper's
dimensions its matrices alone are 10,027,008. The paper's multiply-adds include
the attention matmuls for T and leave them out for M.

![accuracy against parameters]({picture})

Written by `python tools/analysis_tools/model_zoo.py` (`--latency` measures
again) from the configs, `configs/zoo/papers.yml` and
`configs/zoo/measured.yml`.
"""
    )
