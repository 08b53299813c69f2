"""Errors of a tool: a sentence of ours, a traceback of others."""

import argparse
import runpy
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from halvit_mm.apis.cli import add_config_options, errors_in_short
from halvit_mm.checkpoint import read_classes
from halvit_mm.datasets import LoadImageFromFile

from ..commands import ROOT
from ..tools.conftest import DETECTOR

TOOLS = ROOT / 'tools'
#: Tool -> arguments with a file that is not there.
NO_FILE = {
    'train': ('no.py',),
    'test': ('no.py', 'no.pth'),
    'predict': ('no.pth', 'no.jpg'),
    'compress': ('no.py', 'no.pth', '--out', 'out'),
    'analysis_tools/benchmark': ('detector', 'no.py'),
    'analysis_tools/check_config': ('no.py',),
    'analysis_tools/compare': ('no.yaml',),
    'analysis_tools/compare_compression': ('no.yaml',),
    'analysis_tools/draw_curves': ('no',),
    'analysis_tools/draw_detections': ('no.json', 'no', 'no.json'),
    'analysis_tools/ffn_spectrum': ('no.yaml', '--variants', 'x'),
    'analysis_tools/gradient_ratios': ('no.yaml', '--variants', 'x'),
    'analysis_tools/model_info': ('no.py',),
    'analysis_tools/model_zoo': ('--root', 'no'),
    'dataset_converters/check_dataset': ('no.json', 'no'),
    'model_converters/convert_keys': ('no.pth', 'x.pth', '--to', 'timm'),
    'model_converters/dense_from_fips': ('no.py', 'no.pth', 'x.pth'),
    'model_converters/tie_vit': ('no.py', 'no.pth', '--out', 'out'),
}
#: They read no file that a user names.
WITHOUT_INPUT = {
    'dist_launch',
    'demo',
    'analysis_tools/coco_startup',
    'analysis_tools/gpu_proof',
    'dataset_converters/draw_shapes',
}


def end_of(name, args, monkeypatch):
    """Run a tool in this process; returns what it exits with."""
    path = TOOLS / f'{name}.py'
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, args)])
    with pytest.raises(SystemExit) as info:
        runpy.run_path(str(path), run_name='__main__')
    return info.value.code


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/my data/a  b/', '/my data/a  b/'),
        ("'my data'", 'my data'),
        ('[traffic light, car]', ['traffic light', 'car']),
        ('a b,c', ['a b', 'c']),
        ('( 1, 2.5 )', (1, 2.5)),
        ('[(1, a b), [None, true]]', [(1, 'a b'), [None, True]]),
    ],
)
def test_spaces_in_options_stay(text, value):
    """The host would look for mydata, and train a class trafficlight."""
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    found = parser.parse_args(['--cfg-options', f'key={text}']).cfg_options
    assert found == dict(key=value)
    assert type(found['key']) is type(value)


def test_errors_of_ours_are_sentences():
    with pytest.raises(SystemExit, match='there is no checkpoint no.pth'):
        with errors_in_short():
            read_classes('no.pth')


def test_errors_of_others_keep_their_traceback():
    with pytest.raises(RuntimeError), errors_in_short():
        torch.ones(2) @ torch.ones(3)
    with pytest.raises(ValueError, match='invalid literal'), errors_in_short():
        int('x')


class Loaded(list):
    """Paths whose images are loaded, or numbers."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if isinstance(item, str):
            return int(item)
        return LoadImageFromFile().transform(item)


def end_of_a_worker(item):
    """Load an item in another process, as a tool does."""
    with errors_in_short():
        list(DataLoader(Loaded([item]), num_workers=1))


def test_errors_of_workers(tmp_path):
    """One of ours that another one caused, a missing file, another's."""
    path = tmp_path / 'cut.jpg'
    path.write_bytes(b'\xff\xd8\xff')
    with pytest.raises(SystemExit) as info:
        end_of_a_worker(dict(img_path=str(path)))
    assert info.value.code == (
        f"cannot decode 1 image(s), 0 may be skipped: ['{path}']. Of a data "
        'set, tools/dataset_converters/check_dataset.py --decode finds all'
    )
    with pytest.raises(SystemExit, match='^.Errno 2. No such file .*/no.jpg'):
        end_of_a_worker(dict(img_path=str(tmp_path / 'no.jpg')))
    with pytest.raises(ValueError, match='(?s)worker process 0.*literal'):
        end_of_a_worker('x')


@pytest.mark.parametrize('name', ['train', 'test'])
def test_data_that_are_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    args = [DETECTOR, *(['no.pth'] if name == 'test' else [])]
    args += ['--work-dir', tmp_path, '--cfg-options', 'data_root=nowhere']
    args += ['model.backbone.init_cfg=None']
    code = end_of(name, args, monkeypatch)
    assert 'no annotation file nowhere/' in code and '=...' in code


def test_every_tool_is_tried():
    scripts = {
        str(path.relative_to(TOOLS).with_suffix(''))
        for folder in ('', '*_tools/', '*_converters/')
        for path in TOOLS.glob(f'{folder}*.py')
    }
    assert scripts == NO_FILE.keys() | WITHOUT_INPUT


@pytest.mark.parametrize('name', NO_FILE)
def test_a_file_that_is_not_there(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = end_of(name, NO_FILE[name], monkeypatch)
    if name.endswith('check_config'):  # which goes on with the next one
        assert code is True
        code = capsys.readouterr().out.strip()
    missing = next(x for x in map(str, NO_FILE[name]) if x.startswith('no'))
    assert missing in code and '\n' not in code
    assert not list(tmp_path.iterdir())
