"""What the hosts are relied upon for, and what we change about them."""

import io
import pickle
import re
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from halvit_mm.compat import install

from ..commands import run

# A host's own tool knows nothing of us but the config.
BUILD = """
import sys
from mmengine.config import Config
assert 'halvit_mm' not in sys.modules
cfg = Config.fromfile('configs/{config}.py')
assert 'halvit_mm' in sys.modules
import {scope}.models
from mmengine.registry import init_default_scope
from {scope}.registry import MODELS
init_default_scope('{scope}')
model = MODELS.build(cfg.model)
print('built', type(model.backbone).__module__)
"""


@pytest.mark.parametrize(
    ('scope', 'config'),
    [
        ('mmdet', 'maskrcnn_halvit_t'),
        ('mmpretrain', 'pretrain/halvit_t_in1k'),
    ],
)
def test_config_alone_is_enough(scope, config):
    code = BUILD.format(scope=scope, config=config)
    output = run(sys.executable, '-c', code).stdout
    assert 'built halvit_mm.models.backbones.halvit' in output


def test_only_the_headless_opencv_is_installed():
    names = {d.metadata['Name'].lower() for d in metadata.distributions()}
    found = {name for name in names if name.startswith('opencv')}
    assert found == {'opencv-python-headless'}


@pytest.mark.skipif(
    not Path('/proc/self/maps').is_file(), reason='needs /proc'
)
def test_opencv_needs_no_libgl():
    code = 'import cv2; print(open("/proc/self/maps").read())'
    maps = run(sys.executable, '-c', code).stdout
    assert '/cv2' in maps  # the extension itself is listed
    assert 'libGL' not in maps


@pytest.fixture
def no_safe_globals():
    """Torch as it is before anybody announces a class."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


def checkpoint():
    """What a runner of mmengine saves next to the weights."""
    hub = MessageHub('test_host_facts')
    for value in (1.5, 2.5):
        hub.update_scalar('train/loss', value)
    hub.update_info('epoch', 3)
    numbers = (np.float16, np.float64, np.uint8, np.int64, np.bool_)
    return dict(
        message_hub=hub.state_dict(),
        scalars=[number(1) for number in numbers],
        arrays=[np.ones(2, number) for number in numbers],
    )


def test_checkpoint_of_mmengine_loads(no_safe_globals):
    content = checkpoint()
    with pytest.raises(pickle.UnpicklingError, match='Unsupported'):
        torch.load(saved(content), weights_only=True)
    install()
    loaded = torch.load(saved(content), weights_only=True)
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert history.data[0].tolist() == [1.5, 2.5]
    assert history.statistics('mean') == 2.0
    assert loaded['message_hub']['runtime_info']['epoch'] == 3
    assert loaded['scalars'] == content['scalars']
    for one, other in zip(loaded['arrays'], content['arrays']):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()


@pytest.mark.parametrize('core', ['core', '_core'])
def test_checkpoint_by_either_numpy_loads(core, no_safe_globals):
    """Numpy 2 writes and has another name than numpy 1."""
    install()
    old, new = zipfile.ZipFile(saved(checkpoint())), io.BytesIO()
    with zipfile.ZipFile(new, 'w') as file:
        for name in old.namelist():
            data = re.sub(
                rb'(?<=numpy\.)_?core(?=\.multiarray)',
                core.encode(),
                old.read(name),
            )
            assert b'multiarray' in data or 'data.pkl' not in name
            file.writestr(name, data)
    new.seek(0)
    loaded = torch.load(new, weights_only=True)
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert history.data[0].tolist() == [1.5, 2.5]


class Asks:
    """An object that a checkpoint makes by calling ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'content',
    [
        Asks(getattr, HistoryBuffer, '__init__'),
        Asks(getattr, np.ndarray, 'tofile'),
        Asks(print, 'a call'),
    ],
)
def test_checkpoint_reaches_nothing_else(content, no_safe_globals, capsys):
    install()
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(saved(content), weights_only=True)
    assert not capsys.readouterr().out
