"""The models of the zoo: their sizes, and their latencies."""

import json
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import yaml
from mmengine.config import Config

from halvit_mm.apis import load_config, model_info
from halvit_mm.apis.fake_data import image_size
from halvit_mm.apis.model_info import (
    PartInfo,
    build_model,
    count_parameters,
    forward_pass,
)
from halvit_mm.apis.timing import device_name, time_in_turns

#: Name, millions of parameters and top-1 accuracy.
Point = Tuple[str, float, float]


class Entry(NamedTuple):
    """One model of the zoo.

    Attributes:
        config: Its path below ``configs``, without ``.py``.
        paper: ``name``, ``collection``, ``source`` and what the paper
            reports.
        measured: What was measured with this code.
        size: Height and width in pixels that it tests with.
        stored: Parameters of all parts, each counted once.
        effective: The same, each counted at every use.
        parts: Of a classifier: its backbone, and the whole model.
    """

    config: str
    paper: Dict
    measured: Dict
    size: Tuple[int, int]
    stored: int
    effective: int
    parts: Tuple[PartInfo, ...] = ()


class Zoo(NamedTuple):
    """All models, in the order of ``papers.yml``.

    Attributes:
        classifiers: Those of ImageNet.
        detectors: Those of COCO.
        collections: ``name, title, url, architecture`` of each paper.
        others: Models that are not built here, as the papers report them.
        device: The hardware on which latencies were measured.
    """

    classifiers: List[Entry]
    detectors: List[Entry]
    collections: List[Dict]
    others: List[Point]
    device: str


def _read(configs: Path, name: str) -> Dict:
    path = configs / 'zoo' / f'{name}.yml'
    return yaml.safe_load(path.read_text()) or {}


def _load(configs: Path, name: str) -> Config:
    return load_config(f'{configs / name}.py', read_data=False)


def load_zoo(configs: Path) -> Zoo:
    """Build every model and count its parameters.

    Args:
        configs: Folder of the configs, with ``zoo/papers.yml`` and
            ``zoo/measured.yml``.

    Returns:
        The models and what the papers report.
    """
    papers, measured = _read(configs, 'papers'), _read(configs, 'measured')

    def entry(paper: Dict, with_parts: bool) -> Entry:
        name = paper['config']
        cfg = _load(configs, name)
        parts, counts = (), ()
        if with_parts:
            rows = {row.name: row for row in model_info(cfg)}
            parts = (rows['backbone'], rows['total'])
            counts = (parts[1].stored, parts[1].effective)
        else:
            counts = count_parameters(build_model(cfg))
        known = measured.get(name, {})
        return Entry(name, paper, known, image_size(cfg), *counts, parts)

    return Zoo(
        [entry(paper, True) for paper in papers['models']],
        [entry(paper, False) for paper in papers['detectors']],
        papers['collections'],
        [tuple(point) for point in papers['others']],
        measured.get('device', '-'),
    )


def _forward_pass(cfg: Config) -> Callable[[], object]:
    return forward_pass(cfg, image_size(cfg), build_model(cfg))


def measure_zoo(
    configs: Path,
    repeats: int,
    make_pass: Callable[[Config], Callable[[], object]] = _forward_pass,
) -> None:
    """Time the classifiers and keep the figures in ``zoo/measured.yml``.

    They take turns. Those whose backbone and head have the same configs are
    one model and share a figure. All models are in memory at a time.

    Args:
        configs: Folder of the configs.
        repeats: Turns of each model, of three passes each; the median counts.
        make_pass: Called with a config; returns a forward pass.
    """
    names, passes = {}, {}
    for paper in _read(configs, 'papers')['models']:
        cfg = _load(configs, paper['config'])
        parts = [cfg.model.backbone, cfg.model.head]
        key = json.dumps(parts, sort_keys=True, default=repr)
        names.setdefault(key, []).append(paper['config'])
        if key not in passes:
            passes[key] = make_pass(cfg)
    seconds = time_in_turns(passes, repeats, in_a_row=3)
    measured = _read(configs, 'measured')
    for key, sharers in names.items():
        for name in sharers:
            latency = round(seconds[key] * 1e3)
            measured.setdefault(name, {})['latency_ms'] = latency
    measured['device'] = device_name()
    path = configs / 'zoo' / 'measured.yml'
    comment = [x for x in path.read_text().splitlines() if x.startswith('#')]
    path.write_text('\n'.join([*comment, yaml.safe_dump(measured)]))
