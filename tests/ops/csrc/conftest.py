"""Fixtures of the cases; nothing is loaded until one of them runs."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seed():
    from .helpers import record

    torch.manual_seed(0)
    record()


@pytest.fixture(params=[0, 1], ids=['fused', 'in-steps'])
def refuse(request):
    """Whether no product has a plan with an epilogue."""
    from .helpers import HOST

    HOST.halvit_host_refuse(request.param)
    yield request.param
    HOST.halvit_host_refuse(0)
