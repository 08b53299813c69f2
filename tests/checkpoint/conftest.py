"""What a load says, as a list of lines."""

import logging

import pytest

from halvit_mm.checkpoint import conversion, loading, reading
from halvit_mm.models.backbones import position_embeddings, variant


@pytest.fixture
def said(monkeypatch):
    """Lines of the log; tests keep it quiet otherwise."""
    lines = []

    def log(message, level=logging.INFO, logger=None):
        lines.append(message)

    for module in (conversion, loading, reading):
        monkeypatch.setattr(module, 'say', log)
    for module in (position_embeddings, variant):
        monkeypatch.setattr(module, 'print_log', log)
    return lines
