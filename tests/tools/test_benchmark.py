"""The benchmark tool, end to end on the CPU."""

import json
import sys

import benchmark
import pytest
import torch

from .conftest import assert_picture, tool

LAYER = (
    *('layer', '--device', 'cpu', '--batch', 2, '--tokens', 16),
    *('--embed-dims', 32, '--num-heads', 4),
    *('--rounds', 2, '--min-seconds', 0),
)


def test_a_layer(tmp_path):
    page = tmp_path / 'page.md'
    result = tool(
        'analysis_tools/benchmark',
        *LAYER,
        *('--mode', 'train', 'infer', '--dtype', 'bf16'),
        *('--variants', 'naive', 'ours', 'prepared', 'graph'),
        *('--out', tmp_path, '--markdown', page),
    )
    folders = sorted(p for p in tmp_path.iterdir() if p.is_dir())
    assert len(folders) == 2
    for folder in folders:
        values = json.loads((folder / 'result.json').read_text())
        names = [v['name'] for v in values['variants']]
        assert names == ['naive', 'ours', 'prepared', 'graph']
        assert len(values['variants'][1]['samples']) == 2
        assert values['environment']['torch'] == torch.__version__
        assert_picture(folder / 'times.png')
    assert 'needs a GPU' in result.stdout
    assert page.read_text().count('| ours') == 2


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ((*LAYER, '--grid'), '--force'),
        ((*LAYER, '--embed-dims', 30), 'embed_dims=30'),
        (
            ('detector', 'configs/pretrain/halvit_t_in1k.py'),
            'not the config of a detector',
        ),
    ],
)
def test_messages(args, message, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *map(str, args)])
    with pytest.raises(SystemExit, match=message):
        benchmark.main()
