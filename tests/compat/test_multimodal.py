"""Transformers 5 does not keep mmpretrain's models from being imported."""

import pytest
from mmpretrain.utils import dependency

from halvit_mm.compat import multimodal


@pytest.mark.parametrize(
    ('version', 'left'),
    [(None, True), ('4.57.6', True), ('5.0.0', False), ('10.1', False)],
)
def test_they_are_left_out_from_version_5_on(version, left, monkeypatch):
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)
    monkeypatch.setattr(multimodal, 'installed_version', lambda _: version)
    multimodal.skip_multimodal_models()
    assert dependency.WITH_MULTIMODAL is left
