"""Which implementation is used, and what is said of it."""

import logging
import sys

import pytest
import torch

from halvit_mm import ops
from halvit_mm.ops import build, choice

from ..commands import run

pytestmark = pytest.mark.usefixtures('fresh')


@pytest.fixture
def fresh():
    choice._library_problem.cache_clear()
    yield
    choice._library_problem.cache_clear()


def with_gpu(monkeypatch, capability=(9, 0)):
    cuda = torch.cuda
    monkeypatch.setattr(cuda, 'is_available', lambda: True)
    monkeypatch.setattr(cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(cuda, 'get_device_name', lambda i: 'Some GPU')
    monkeypatch.setattr(cuda, 'get_device_capability', lambda i: capability)


def library(tmp_path, **changed):
    """A file that says of itself what a library says."""
    fields = {
        'schema': build.schema_digest(),
        'source': build.source_digest(),
        'torch': '.'.join(torch.__version__.split('.')[:2]),
        'cuda': torch.version.cuda or '',
        'archs': '8.0;9.0+PTX',
        **changed,
    }
    tag = ';'.join(f'{key}={value}' for key, value in fields.items())
    path = tmp_path / '_C.so'
    path.write_bytes(b'\x7fELF\0halvit_mm-build{%s}\0' % tag.encode())
    return path


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu(caplog):
    assert ops.backend() == 'fallback'
    assert ops.backend_reason() in (
        'the CUDA operators are not built',
        'PyTorch sees no usable GPU',
    )
    assert caplog.records == []  # that is no news on a machine without one
    with ops.use('cuda'), pytest.raises(RuntimeError, match='=cuda, but'):
        ops.backend()


@pytest.mark.parametrize('name', ['fallback', 'plain'])
def test_forced(name):
    with ops.use(name):
        assert ops.backend() == name
        assert ops.backend_reason() == f'HALVIT_MM_OPS={name}'
    assert ops.backend() != 'plain'


def test_an_unknown_choice():
    with pytest.raises(ValueError, match="'fast': choose one of"):
        with ops.use('fast'):
            pass


def test_the_environment_chooses(monkeypatch):
    code = 'from halvit_mm import ops; print(ops.backend())'
    command = (sys.executable, '-c', code)
    assert run(*command, HALVIT_MM_OPS='plain').stdout == 'plain\n'
    # in another process: in tests/test_doctor.py
    monkeypatch.setenv('HALVIT_MM_OPS', 'fast')
    with pytest.raises(ValueError, match="OPS='fast': choose one of"):
        choice._from_environment()


def test_a_fitting_library_is_read_without_loading_it(tmp_path):
    found = build.read_build(library(tmp_path))
    assert found['archs'] == '8.0;9.0+PTX'
    assert list(found) == ['schema', 'source', 'torch', 'cuda', 'archs']


@pytest.mark.parametrize(
    ('fields', 'problem'),
    [
        (dict(schema='0123456789ab'), 'built for schema 0123456789ab, not'),
        (dict(source='0123456789ab'), 'built for source 0123456789ab, not'),
        (dict(cuda='1.2'), 'built for cuda 1, not'),
        (dict(torch='1.13'), 'built for torch 1.13, not'),
    ],
)
def test_a_stale_library_is_not_loaded(tmp_path, monkeypatch, fields, problem):
    with_gpu(monkeypatch)
    found = build.why_not(library(tmp_path, **fields))
    assert problem in found
    assert 'build it again' in found


def test_a_foreign_library_is_not_loaded(tmp_path, monkeypatch):
    with_gpu(monkeypatch)
    path = tmp_path / '_C.so'
    path.write_bytes(b'\x7fELF something else')
    assert 'schema unknown' in build.why_not(path)


def test_a_damaged_library(tmp_path, monkeypatch, caplog):
    """It says the right things and cannot be loaded: one line, formulas."""
    with_gpu(monkeypatch)
    path = library(tmp_path)
    monkeypatch.setattr(build, 'library_path', lambda: path)
    with caplog.at_level(logging.WARNING, 'halvit_mm'):
        assert [ops.backend() for _ in range(3)] == ['plain'] * 3
    assert len(caplog.records) == 1
    assert '_C.so does not work' in caplog.text
    with ops.use('cuda'), pytest.raises(RuntimeError, match='does not work'):
        ops.backend()


def test_an_old_gpu(tmp_path, monkeypatch):
    with_gpu(monkeypatch, capability=(7, 5))
    problem = build.why_not(library(tmp_path))
    assert problem == "['Some GPU'] have a compute capability below 8.0"


def test_kernels_that_do_not_run_are_passed_by(tmp_path, monkeypatch):
    """For example where the driver is older than the build."""
    with_gpu(monkeypatch)
    path = library(tmp_path)
    monkeypatch.setattr(build, 'library_path', lambda: path)
    monkeypatch.setattr(torch.ops, 'load_library', lambda path: None)
    monkeypatch.setattr(build, '_loaded', False)

    def no_launch(*args, **kwargs):
        raise RuntimeError('CUDA error: no kernel image\nand so on')

    monkeypatch.setattr(torch, 'ones', no_launch)
    assert ops.backend() == 'plain'
    assert ops.backend_reason() == (
        '_C.so does not work: CUDA error: no kernel image'
    )
    # its kernels would serve the operators of the fallback, too
    for name in ('auto', 'fallback'):
        with ops.use(name):
            assert choice._passes_by(torch.float32, (8, 8))


def test_a_gpu_without_the_library(monkeypatch, caplog):
    """Operators by PyTorch's kernels are slower there than the formulas."""
    with_gpu(monkeypatch)
    monkeypatch.setattr(build, 'library_path', lambda: None)
    with caplog.at_level(logging.WARNING, 'halvit_mm'):
        assert ops.backend() == ops.backend('cuda') == 'plain'
        assert choice._passes_by(torch.float32, (8, 8))
    assert ops.backend_reason() == 'the CUDA operators are not built'
    assert [r.getMessage() for r in caplog.records] == [
        'The operators run as plain formulas on the GPU: the CUDA operators '
        'are not built.'
    ]
    assert ops.backend('cpu') == 'fallback'
    assert ops.backend_reason('cpu') == 'the library is for GPUs'
    with ops.use('fallback'):
        assert ops.backend('cuda') == 'fallback'
        assert not choice._passes_by(torch.float32, (8, 8))
