"""Errors of a tool: a sentence of ours, a traceback of others."""

import runpy
import sys

import pytest
import torch

from halvit_mm.apis.cli import errors_in_short
from halvit_mm.checkpoint import read_classes

from ..tools.conftest import DETECTOR, ROOT


def test_errors_of_ours_are_sentences():
    with pytest.raises(SystemExit, match='there is no checkpoint no.pth'):
        with errors_in_short():
            read_classes('no.pth')


def test_errors_of_others_keep_their_traceback():
    with pytest.raises(RuntimeError), errors_in_short():
        torch.ones(2) @ torch.ones(3)
    with pytest.raises(ValueError, match='invalid literal'), errors_in_short():
        int('x')


@pytest.mark.parametrize('name', ['train', 'test'])
def test_data_that_are_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    args = [name, DETECTOR, *(['no.pth'] if name == 'test' else [])]
    args += ['--work-dir', tmp_path, '--cfg-options', 'data_root=nowhere']
    args += ['model.backbone.init_cfg=None']
    monkeypatch.setattr(sys, 'argv', list(map(str, args)))
    with pytest.raises(SystemExit, match='no annotation file nowhere/.*=...'):
        runpy.run_path(f'tools/{name}.py', run_name='__main__')
