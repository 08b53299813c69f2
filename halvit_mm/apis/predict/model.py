"""A model with its weights, its classes and its test pipeline."""

from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from mmdet.models import BaseDetector
from mmdet.registry import MODELS as DETECTORS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn

from ...checkpoint import (
    check_model,
    describe_classes,
    host_meta,
    load_content,
    load_weights,
    read_header,
)
from ...datasets.palettes import palette_for

# registered here, for the header of a file has no custom_imports
from ...models import heads  # noqa: F401
from ..config import dataset_metainfo, load_config, set_classes
from ..model_info import build_model

#: Of a file that does not say how its model was tested.
_COCO = "_base_ = 'mmdet::_base_/datasets/coco_instance.py'"
_SUFFIXES = ('.pth', '.safetensors')


class LoadedModel(NamedTuple):
    """What predicts.

    Attributes:
        model: The model in eval mode.
        classes: Names in the order of the labels.
        palette: A colour of each in RGB, 0 to 255.
        pipeline: Configs of the transforms from the file to the model.
    """

    model: nn.Module
    classes: Tuple[str, ...]
    palette: List[Tuple[int, int, int]]
    pipeline: List[dict]


def load_model(
    path: str,
    config: Optional[str] = None,
    device: Optional[str] = None,
    classifiers: bool = False,
) -> LoadedModel:
    """Build a model from a file of weights.

    Its classes are those that the weights were trained for, whatever the
    config has.

    Args:
        path: File whose header names its model, or any checkpoint with its
            config; or the folder of a training or a compression, of which
            the latest weights are taken.
        config: Config file. By default the model is that of the header, or
            else that of the only config beside the weights.
        device: By default the GPU, where there is one.
        classifiers: Whether the model may be a classifier of mmpretrain.

    Raises:
        FileNotFoundError: If there are no weights.
        ValueError: If there is no config, the model is no detector, or the
            weights do not fit.
    """
    weights = _find_weights(Path(path))
    header, meta = _read_meta(weights)
    classes = meta.get('classes')
    if config is None and header is not None and header.get('model'):
        cfg = _config_of(header, weights)
        _require_kind(cfg, str(weights), classifiers)
        classes = classes or _numbered(cfg, weights)
    else:
        config = config or _config_beside(weights)
        cfg = load_config(
            config, read_data=not classes, checkpoint=str(weights)
        )
        _require_kind(cfg, config, classifiers)
        known = dataset_metainfo(cfg)
        if classes and known.get('classes'):
            _say_difference(classes, known['classes'], str(weights), config)
        meta = meta or known
        classes = classes or known.get('classes') or _numbered(cfg, weights)
        set_classes(cfg, classes)
    others = set(_numbers_of_classes(cfg.model)) - {len(classes)}
    if others:
        raise ValueError(
            f'{weights} names {len(classes)} classes, but its heads are for '
            f'{sorted(others)}'
        )
    model = build_model(cfg)
    load_weights(model, str(weights))
    palette = meta.get('palette')
    if not isinstance(palette, list) or len(palette) < len(classes):
        palette = palette_for(len(classes))
    return LoadedModel(
        model.to(device or get_device()).eval(),
        tuple(classes),
        palette,
        _pipeline_of(cfg, weights),
    )


def _find_weights(path: Path) -> Path:
    """The file of weights that a user means."""
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix in _SUFFIXES]
        found.sort(key=lambda file: file.stat().st_mtime_ns)
        last = path / 'last_checkpoint'  # what mmengine's runner writes
        if last.is_file():  # the folder may have been moved
            name = Path(last.read_text().strip()).name
            found += [file for file in found if file.name == name]
        if not found:
            raise FileNotFoundError(f'there is no checkpoint in {path}')
        print_log(f'the weights are {found[-1]}', logger='current')
        return found[-1]
    if path.suffix == '.py':
        raise ValueError(
            f'{path} is a config: name the weights, and `--config {path}`'
        )
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    return path


def _read_meta(weights: Path) -> Tuple[Optional[dict], dict]:
    """The header of a file, and what it says about its data set."""
    header, content = read_header(weights), None
    if header is None:  # a file of torch.save, or without one
        content, header = load_content(weights)
    if header is not None:
        meta = host_meta(header)
    else:
        meta = content.get('meta') if isinstance(content, dict) else None
    found = meta.get('dataset_meta') if isinstance(meta, dict) else None
    return header, dict(found) if isinstance(found, dict) else {}


def _config_of(header: dict, weights: Path) -> Config:
    """A config of the model in a header."""
    model = dict(check_model(header['model'], weights))
    if header['format'] == 'fips':
        model['backbone'] = dict(model['backbone'], checkpoint=str(weights))
    cfg = dict(model=model)
    if steps := header.get('test_pipeline'):
        # JSON has no tuples, and the host's transforms take no lists.
        pipeline = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in s.items()}
            for s in steps
        ]
        cfg['test_dataloader'] = dict(dataset=dict(pipeline=pipeline))
    return Config(cfg)


def _config_beside(weights: Path) -> str:
    found = list(weights.parent.glob('*.py'))
    if len(found) != 1:
        raise ValueError(
            f'{weights} does not say what model it is of, and beside it are '
            f'{len(found)} configs: name the one of its training with '
            '--config'
        )
    print_log(f'the config is {found[0]}', logger='current')
    return str(found[0])


def _say_difference(theirs, ours, weights: str, config: str) -> None:
    if differ := describe_classes(theirs, ours, (weights, config)):
        print_log(f'{differ}. Those of {weights} are taken', logger='current')


def _numbers_of_classes(node: Any) -> Iterator[int]:
    """Every ``num_classes`` in a config."""
    if isinstance(node, dict):
        if 'num_classes' in node:
            yield node['num_classes']
        node = list(node.values())
    for child in node if isinstance(node, (list, tuple)) else ():
        yield from _numbers_of_classes(child)


def _numbered(cfg: Config, weights: Path) -> List[str]:
    """Names for classes of which only the number is known."""
    number = max(_numbers_of_classes(cfg.get('model')), default=0)
    print_log(
        f'{weights} does not name its {number} classes: they are numbered',
        logger='current',
    )
    return [f'class {i}' for i in range(number)]


def _require_kind(cfg: Config, origin: str, classifiers: bool) -> None:
    """Refuse a model of another kind, and set the scope of its host."""
    name = str((cfg.get('model') or {}).get('type'))
    hosts = [(DETECTORS, BaseDetector), (CLASSIFIERS, ImageClassifier)]
    for registry, kind in hosts[: 1 + classifiers]:
        found = registry.get(name)
        if found is not None and issubclass(found, kind):
            cfg.setdefault('default_scope', registry.scope)
            init_default_scope(cfg.default_scope)
            return
    raise ValueError(
        f'the model of {origin} is {name}, which is no detector of mmdet'
        + ' and no classifier of mmpretrain' * classifiers
    )


def _pipeline_of(cfg: Config, weights: Path) -> List[dict]:
    """The test pipeline, without what reads annotations."""
    if cfg.get('test_dataloader') is None:
        if cfg.default_scope != 'mmdet':
            print_log(
                f'{weights} does not say how images are prepared',
                logger='current',
            )
            return []
        print_log(
            f'{weights} does not say how large its images were: they are '
            'resized as on COCO, to 800 pixels or 1333 at most; --config '
            'takes the size of a config',
            logger='current',
        )
        cfg = Config.fromstring(_COCO, '.py')
    steps = get_test_pipeline_cfg(cfg)
    return [dict(s) for s in steps if 'LoadAnnotations' not in s['type']]
