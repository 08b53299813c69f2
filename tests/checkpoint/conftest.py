"""What a load says, as a list of lines."""

import pytest

from halvit_mm.checkpoint import loading, reading
from halvit_mm.models.backbones import halvit, position_embeddings


@pytest.fixture
def said(monkeypatch):
    """Lines of the log; tests keep it quiet otherwise."""
    lines = []

    def log(message, logger=None, level=None):
        lines.append(message)

    for module in (loading, reading, position_embeddings, halvit):
        monkeypatch.setattr(module, 'print_log', log)
    return lines
