"""Fixtures of the cases; nothing is loaded until one of them runs."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seed():
    from .helpers import record

    torch.manual_seed(0)
    record()
