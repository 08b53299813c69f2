"""The configs by family, loaded once, and their models without memory."""

from functools import cache

import torch

from halvit_mm.apis import load_config
from halvit_mm.apis.model_info import build_model

from .commands import ROOT

CONFIGS = ROOT / 'configs'
NAMES = sorted(
    str(path.relative_to(CONFIGS).with_suffix(''))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)
#: Builds from a file that tools/compress.py makes: tests/models/wrappers.
COMPRESSED = 'fips/maskrcnn_halvit_t_fips'
NAMES.remove(COMPRESSED)
#: Without masks, test_boxes_only.py compares them with those that have them.
BOX_DETECTORS = [name for name in NAMES if name.startswith('fasterrcnn_')]
#: From weights of other projects, test_recipes.py has their recipe.
FOREIGN = [
    name
    for name in NAMES
    if name.startswith('maskrcnn_') and name.endswith(('_dinov2', '_mae'))
]
DETECTORS = BOX_DETECTORS + [n for n in NAMES if n.startswith('maskrcnn_')]
PRETRAINING = [name for name in NAMES if name.startswith('pretrain/')]
TRANSFER = [name for name in NAMES if name.startswith('transfer/')]
RESNETS = [name for name in NAMES if 'resnet' in name]
VITS = [name for name in PRETRAINING if name not in RESNETS]
VIT_DETECTORS = [name for name in DETECTORS if name not in RESNETS]


@cache
def load(name):
    """A config, to be read only."""
    # Names of classes may have to be read from data that are not here.
    return load_config(str(CONFIGS / f'{name}.py'), read_data=False)


def build_on_meta(cfg):
    """A config's model, its shapes and settings without its numbers."""
    kind = cfg.model.backbone.type
    if 'ResNet' in kind or 'Swin' in kind:  # which read a number
        return build_model(cfg).to('meta')
    with torch.device('meta'):
        return build_model(cfg)


@cache
def built(name):
    """The model of a config, to be read only."""
    return build_on_meta(load(name))


def flat(node, path=''):
    """A nested config as one dict: path -> leaf."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return {path: node}
    leaves = {}
    for key, child in items:
        leaves.update(flat(child, f'{path}.{key}' if path else str(key)))
    return leaves


def differing(one, two):
    """Paths at which two nested configs differ, sorted."""
    one, two = flat(one), flat(two)
    return sorted(
        path
        for path in one.keys() | two.keys()
        if one.get(path, '-') != two.get(path, '-')
    )


def setting(node, path):
    """What a config has at a path of keys and indices, None for nothing."""
    for key in path.split('.'):
        if node is None:
            return None
        if isinstance(node, (list, tuple)):
            node = node[int(key)] if int(key) < len(node) else None
        else:
            node = node.get(key)
    return node


def assert_settings(cfg, expected):
    """A config has these values at these paths."""
    assert {path: setting(cfg, path) for path in expected} == expected


def transform(pipeline, kind):
    (found,) = (t for t in pipeline if t['type'] == kind)
    return found
