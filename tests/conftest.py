"""What every test starts from: one seed, a clean scope, a quiet logger."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import halvit_mm  # noqa: F401

# init_weights() and the optimiser's builder log a line per parameter.
MMLogger.get_current_instance().setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def isolate(monkeypatch):
    torch.manual_seed(0)
    # A default scope that a test sets would decide what the next one builds.
    scopes = DefaultScope._instance_dict.copy()
    monkeypatch.setattr(DefaultScope, '_instance_dict', scopes)
