"""What every test starts from: one seed, a clean scope, a quiet logger."""

import ctypes
import gc
import logging
from functools import cache

import pytest
import torch
from mmengine.config import utils as config_utils
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from halvit_mm.compat.checkpoints import allow_mmengine_checkpoints

# init_weights() and the optimiser's builder log a line per parameter.
MMLogger.get_current_instance().setLevel(logging.WARNING)
# A config with a base of a host looks that up in a hundred index files.
config_utils.load = cache(config_utils.load)


def pytest_collection_modifyitems(items):
    """Run the slow tests first.

    Several workers take tests from one another as they run out of them. They
    finish together if only quick tests are left at the end.
    """
    items.sort(key=lambda item: not _is_slow(item))  # else in their order


def _is_slow(item) -> bool:
    # Tests of the tools start other processes.
    in_tools = item.path.parent.name == 'tools'
    return in_tools or item.get_closest_marker('slow') is not None


@pytest.fixture(autouse=True)
def isolate(monkeypatch):
    torch.manual_seed(0)
    # The host's loader, called by another test, withdraws what is announced.
    allow_mmengine_checkpoints()
    # A default scope that a test sets would decide what the next one builds.
    scopes = DefaultScope._instance_dict.copy()
    monkeypatch.setattr(DefaultScope, '_instance_dict', scopes)


@pytest.fixture(autouse=True, scope='module')
def isolate_file():
    """Keep the default scopes that fixtures of a file set inside it."""
    scopes = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict = scopes


@pytest.fixture(autouse=True, scope='module')
def free_memory():
    """Give the memory of a file's models back to the system.

    Models, optimisers and runners refer to one another in cycles, and glibc
    keeps what is freed between other blocks.
    """
    yield
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)
