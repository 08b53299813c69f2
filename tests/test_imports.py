"""Who may import whom, also inside functions: one way, held by this table."""

import ast
import sys
from pathlib import Path
from typing import NamedTuple, Tuple

import pytest

from .commands import ROOT

PACKAGE = 'halvit_mm'


class Rule(NamedTuple):
    """What a part of the package may import, besides itself and Python.

    Attributes:
        ours: Parts of the package.
        others: Of the other packages.
        lazily: Of the other packages, but inside functions only.
        own: Of the folders beside a script.
    """

    ours: Tuple[str, ...] = ()
    others: Tuple[str, ...] = ()
    lazily: Tuple[str, ...] = ()
    own: Tuple[str, ...] = ()


_MODELS = Rule(
    ours=('models.layers', 'registry', 'checkpoint'),
    others=(
        'torch',
        'mmengine.logging',
        'mmengine.model',
        'mmpretrain.models.backbones',
        'mmpretrain.models.utils',
    ),
)
_EVERYTHING = ('',)
_EVIDENCE = ('torch', 'mmengine', 'numpy', 'matplotlib', 'scipy', 'yaml')

# The longest matching name holds. A part without a row needs one.
RULES = {
    '__init__': Rule(ours=('compat', 'registry', 'version', 'weights')),
    'weights': Rule(
        ours=('checkpoint', 'compression'),
        others=('torch', 'mmengine.runner'),
    ),
    'version': Rule(),
    'compat': Rule(
        others=('torch', 'torchvision', 'numpy'),
        # so that the doctor works without any host
        lazily=('mmengine', 'mmcv', 'mmpretrain.utils'),
    ),
    'registry': Rule(ours=('compat',), others=('mmengine.registry',)),
    'ops': Rule(others=('torch',)),
    'models': Rule(ours=('registry',)),
    'models.layers': Rule(
        ours=('ops',), others=('torch', 'mmcv.cnn', 'mmengine.model')
    ),
    'models.backbones': _MODELS,  # not the necks, and never mmdet:
    'models.necks': _MODELS,  # only configs name it, and the heads,
    'models.heads': Rule(  # which only configs of detectors import
        ours=('registry',), others=('torch', 'mmdet.models')
    ),
    'models.wrappers': Rule(
        ours=('registry', 'compression', 'checkpoint'),
        others=('torch', 'mmengine'),
    ),
    'compression': Rule(ours=('checkpoint',), others=('torch', 'safetensors')),
    'checkpoint': Rule(
        ours=('compat',),
        others=('torch', 'safetensors'),
        # so that compression works without any host
        lazily=('mmengine',),
    ),
    'datasets': Rule(
        ours=('registry',),
        others=(
            'mmdet.datasets',
            'mmdet.evaluation',
            'mmdet.registry',
            'mmpretrain.datasets',
            'mmcv.transforms',
            'mmengine.fileio',
            'mmengine.logging',
            'mmengine.registry',
            'cv2',
            'faster_coco_eval',
            'numpy',
            'pycocotools',
        ),
    ),
    'datasets.coco_check': Rule(others=('numpy', 'PIL', 'pycocotools')),
    'engine': Rule(
        ours=('registry', 'compression', 'checkpoint', 'ops', 'visualization'),
        others=('torch', 'mmengine', 'mmpretrain.engine', 'numpy'),
    ),
    'visualization': Rule(
        ours=('datasets.coco_check',),
        others=('cv2', 'matplotlib', 'numpy', 'pycocotools'),
        lazily=('supervision',),  # an extra
    ),
    'apis': Rule(
        ours=_EVERYTHING,
        others=(
            'torch',
            'cv2',
            'mmcv.transforms',
            'mmengine',
            'mmdet',
            'mmpretrain',
            'numpy',
            'pycocotools',
            'faster_coco_eval',
            'rich',
            'yaml',
        ),
    ),
    'apis.export': Rule(
        ours=_EVERYTHING,
        others=('torch', 'torchvision', 'cv2', 'numpy', 'mmdet'),
        lazily=('onnx', 'onnxruntime', 'onnxscript'),  # an extra
    ),
    'host': Rule(),
    'doctor': Rule(ours=('compat', 'ops'), others=('torch',)),
    # the tools never one another; `own`: what lies beside their scripts
    'tools.deployment.detect_onnx': Rule(
        others=('numpy', 'onnxruntime', 'PIL')
    ),
    'tools': Rule(
        ours=_EVERYTHING,
        others=('mmengine', 'torch', 'rich', 'safetensors', 'yaml'),
    ),
    **{
        f'tools.analysis_tools.{name}': Rule(
            ours=_EVERYTHING, others=others, own=own
        )
        for name, own, others in (
            (
                'bench',
                ('proof',),
                (*_EVIDENCE, 'mmpretrain.models.backbones'),
            ),
            ('benchmark', ('bench',), ('torch',)),
            ('study', (), _EVIDENCE),
            ('compare', ('study',), ()),
            ('compare_compression', ('study',), ()),
            ('ffn_spectrum', ('study',), _EVIDENCE),
            ('gradient_ratios', ('study',), _EVIDENCE),
            # from the folder of `apis`, without what that package imports
            ('proof', ('table', 'timing'), ('torch',)),
            ('gpu_proof', ('proof',), ()),
            ('zoo', (), _EVIDENCE),
            ('model_zoo', ('zoo',), ()),
        )
    },
    # without the package around it, which imports PyTorch
    'tools.dataset_converters.check_dataset': Rule(own=('coco_check',)),
}


def files():
    """Path and dotted name of every file under the rules."""
    package = ROOT / PACKAGE
    for path in sorted(package.rglob('*.py')):
        yield path, path.relative_to(package)
    for path in sorted((ROOT / 'tools').rglob('*.py')):
        yield path, path.relative_to(ROOT)


def dotted(relative):
    return '.'.join(Path(relative).with_suffix('').parts)


def rule_of(module):
    """The row of a module and its name."""
    parts = module.split('.')
    for length in range(len(parts), 0, -1):
        name = '.'.join(parts[:length])
        if name in RULES:
            return name, RULES[name]
    raise AssertionError(f'{module} has no row in RULES')


def imports(source, module):
    """Full names of what is imported, and whether a function does it."""
    tree = ast.parse(source)
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lazy = {id(node) for f in functions for node in ast.walk(f)}
    package = module.split('.')[:-1]
    if package[:1] != ['tools']:
        package = [PACKAGE, *package]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] * bool(node.level)
            base += node.module.split('.') if node.module else []
            names = ['.'.join([*base, alias.name]) for alias in node.names]
        else:
            continue
        yield from ((name, id(node) in lazy) for name in names)


def within(name, parents):
    return any(name == p or name.startswith(f'{p}.') for p in parents)


def is_private(name):
    return any(
        part.startswith('_') and not part.endswith('__')
        for part in name.split('.')
    )


def violations(source, relative):
    """Names that a file imports against the rules."""
    module = dotted(relative)
    row, rule = rule_of(module)
    ours = [f'{PACKAGE}.{part}'.rstrip('.') for part in (row, *rule.ours)]
    found = []
    for name, is_lazy in imports(source, module):
        if within(name, [PACKAGE]):
            allowed = within(name, ours) and not is_private(name)
        else:
            allowed = name.split('.')[0] in sys.stdlib_module_names
            allowed |= within(name, (*rule.others, *rule.own))
            # a folder of tools imports its own files
            allowed |= 'tools.' in row and within(name, [row])
            allowed |= is_lazy and within(name, rule.lazily)
        if not allowed:
            found.append(name)
    return found


@pytest.mark.parametrize(
    ('path', 'relative'),
    [pytest.param(*pair, id=str(pair[1])) for pair in files()],
)
def test_file(path, relative):
    assert violations(path.read_text(), relative) == []


@pytest.mark.parametrize(
    ('relative', 'source', 'expected'),
    [
        ('ops/x.py', 'import mmengine', ['mmengine']),
        ('registry.py', 'from . import ops', ['halvit_mm.ops']),
        (
            'models/layers/x.py',
            'from ...registry import MODELS',
            ['halvit_mm.registry.MODELS'],
        ),
        (
            'models/necks/x.py',
            'def f():\n    from ..backbones import HaLViT',
            ['halvit_mm.models.backbones.HaLViT'],
        ),
        (
            'models/backbones/x.py',
            'class A:\n    def f(self):\n        import mmdet.models',
            ['mmdet.models'],
        ),
        (
            'checkpoint/x.py',
            'try:\n    from .. import models\nexcept ImportError:\n    pass',
            ['halvit_mm.models'],
        ),
        (
            'datasets/x.py',
            'from halvit_mm.models import HaLViT',
            ['halvit_mm.models.HaLViT'],
        ),
        (
            'apis/x.py',
            'from ..checkpoint.coverage import _kind_of, compare',
            ['halvit_mm.checkpoint.coverage._kind_of'],
        ),
        ('compat/x.py', 'import mmcv\ndef f():\n    import mmcv', ['mmcv']),
        (
            'tools/x.py',
            'import train\nimport tools.test as t',
            ['train', 'tools.test'],
        ),
        ('tools/x.py', 'import json\nfrom halvit_mm.apis import train', []),
        (
            'tools/analysis_tools/study/x.py',
            'from .plan import Run\nfrom ..bench import grid\nimport compare',
            ['tools.analysis_tools.bench.grid', 'compare'],
        ),
        (
            'tools/analysis_tools/compare.py',
            'from study import main\nfrom bench import grid',
            ['bench.grid'],
        ),
    ],
)
def test_the_checker(relative, source, expected):
    assert violations(source, relative) == expected


def test_a_new_part_needs_a_row():
    with pytest.raises(AssertionError, match='novelty.x has no row'):
        violations('import torch', 'novelty/x.py')


def texts():
    """Files of the repository that a reader sees."""
    skipped = ('.venv', '.git', '.ruff', '.pytest', 'work_dirs', 'data')
    suffixes = ('', '.md', '.py', '.sh', '.toml', '.txt', '.yml')
    for entry in ROOT.iterdir():
        if entry.name.startswith(skipped) and entry.name != '.github':
            continue
        for path in [entry] if entry.is_file() else entry.rglob('*'):
            if path.is_file() and path.suffix in suffixes:
                yield path


def test_nothing_outside_the_repository_is_referred_to():
    pairs = (('..', 'shared'), ('shared', 'design'))
    names = ['/'.join(pair) for pair in pairs]
    paths = list(texts())
    assert len(paths) > 50
    for path in paths:
        content = path.read_text(errors='replace')
        assert not [name for name in names if name in content], path
