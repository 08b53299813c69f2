"""Which ``mmcv._ext`` is taken, and what is said about it."""

import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder

import mmcv.ops
import pytest

from halvit_mm.compat import OPS_ENV_VAR, ops_backend

from ..commands import run

is_compiled = PathFinder.find_spec('mmcv._ext', mmcv.__path__) is not None


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder where ``mmcv._ext`` is looked for, anew."""
    monkeypatch.delenv(OPS_ENV_VAR, raising=False)
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    monkeypatch.delattr(mmcv, '_ext')
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path)])
    return tmp_path


def test_torchvision_stands_in_where_nothing_is_compiled(folder, caplog):
    assert ops_backend() == 'torchvision'
    assert not caplog.records  # the normal case needs no warning


def test_compiled_extension_wins(folder):
    (folder / '_ext.py').write_text('origin = "compiled"')
    assert ops_backend() == 'native'
    assert importlib.import_module('mmcv._ext').origin == 'compiled'


def test_choice_of_torchvision_wins_over_compiled(folder, monkeypatch):
    (folder / '_ext.py').write_text('')
    monkeypatch.setenv(OPS_ENV_VAR, 'torchvision')
    assert ops_backend() == 'torchvision'


def test_choice_of_native_has_no_fallback(folder, monkeypatch):
    monkeypatch.setenv(OPS_ENV_VAR, 'native')
    assert ops_backend() == 'none'
    (folder / '_ext.py').write_text('')
    importlib.invalidate_caches()
    assert ops_backend() == 'native'


def test_broken_extension_is_named(folder, caplog):
    (folder / f'_ext{EXTENSION_SUFFIXES[0]}').write_bytes(b'no library')
    assert ops_backend() == 'torchvision'
    (record,) = caplog.records
    assert record.levelname == 'WARNING'
    assert 'mmcv._ext does not load' in record.getMessage()
    assert str(folder) in record.getMessage()  # the loader's own reason


def test_unknown_choice(folder, monkeypatch):
    monkeypatch.setenv(OPS_ENV_VAR, 'cuda')
    with pytest.raises(ValueError) as info:
        ops_backend()
    for word in (OPS_ENV_VAR, 'cuda', 'auto', 'native', 'torchvision'):
        assert repr(word).strip("'") in str(info.value)


@pytest.mark.skipif(is_compiled, reason='mmcv is compiled here')
def test_native_without_compiled_mmcv_fails_at_the_import():
    code = (
        'import halvit_mm\n'  # quiet: only who needs an operator is told
        'try:\n'
        '    import mmcv.ops\n'
        'except ModuleNotFoundError as error:\n'
        '    print("missing:", error.name)\n'
    )
    result = run(sys.executable, '-c', code, **{OPS_ENV_VAR: 'native'})
    assert 'missing: mmcv._ext' in result.stdout
