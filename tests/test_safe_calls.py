"""Nothing in the package and the tools runs what a file holds."""

import ast

import pytest

from .commands import ROOT

#: Calls that can, by their last two names -> files that may make them.
UNSAFE = {
    'eval': (),
    'exec': (),
    'dill.load': (),
    'fileio.load': (),
    'hub.load_state_dict_from_url': (),
    'joblib.load': (),
    'marshal.loads': (),
    'mmengine.load': (),
    'numpy.load': (),
    'pickle.load': (),
    'pickle.loads': (),
    'pickle.Unpickler': (),
    'torch.load': ('halvit_mm/checkpoint/untrusted.py',),
    'yaml.load': (),
    'yaml.unsafe_load': (),
    'Config.fromstring': ('halvit_mm/apis/predict/model.py',),
}


def calls(source):
    """Every unsafe call of a text, also of what was imported by name."""
    tree, names = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.split('.')[-1]
            for alias in node.names:
                names[alias.asname or alias.name] = f'{module}.{alias.name}'
        elif isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name] = alias.name
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        first, *rest = name.split('.')
        for text in (name, '.'.join([names.get(first, first), *rest])):
            if '.'.join(text.split('.')[-2:]) in UNSAFE:
                yield '.'.join(text.split('.')[-2:])
                break


def test_no_file_makes_an_unsafe_call():
    paths = [*ROOT.glob('halvit_mm/**/*.py'), *ROOT.glob('tools/**/*.py')]
    assert len(paths) > 100
    found = {
        (name, path.relative_to(ROOT).as_posix())
        for path in paths
        for name in calls(path.read_text())
    }
    allowed = {(name, x) for name, files in UNSAFE.items() for x in files}
    assert found == allowed


@pytest.mark.parametrize(
    ('source', 'name'),
    [
        ('import torch\ntorch.load(x)', 'torch.load'),
        ('from torch import load as f\nf(x)', 'torch.load'),
        ('import torch as t\nt.load(x)', 'torch.load'),
        ('def f():\n    import pickle\n    pickle.loads(x)', 'pickle.loads'),
        ('eval(x)', 'eval'),
        ('model.eval()', None),
        ('import yaml\nyaml.safe_load(x)', None),
    ],
)
def test_the_walk(source, name):
    assert list(calls(source)) == [name] * (name is not None)
