"""tools/predict.py as a user calls it."""

import json
import sys

import pytest

from halvit_mm.apis import Predictor

from ..apis.test_cli import end_of
from ..tiny_detector import make_run, write_image
from .conftest import assert_picture, tool

pytest.importorskip('supervision')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp('run'))[0]


def test_results_are_those_of_the_evaluation(run, shapes, tmp_path):
    """To the last digit, boxes and masks, where the evaluation keeps all."""
    root = shapes / 'detection'
    options = [
        f'data_root={root}',
        'test_dataloader.batch_size=1',
        'test_dataloader.num_workers=0',
    ]
    command = ('test', run / 'tiny.py', run / 'epoch_1.pth')
    tool(*command, work_dir=tmp_path, options=options)
    source, out = root / 'annotations' / 'val.json', tmp_path / 'out'
    output = tool(
        'predict',
        run,
        source,
        '--json',
        images=root / 'val',
        out=out,
        score=0,
        device='cpu',
    ).stdout
    found = json.loads((out / 'results.json').read_text())
    assert len(found) == 20
    assert found == json.loads((tmp_path / 'results.segm.json').read_text())
    for result in found:
        del result['segmentation']
    assert found == json.loads((tmp_path / 'results.bbox.json').read_text())
    assert '20 detections with a score of 0.0 or more on 4 images' in output
    for path in (root / 'val').iterdir():
        assert_picture(out / path.name)


def test_what_cannot_be_read_is_named(run, tmp_path):
    """All else is done, and the exit status tells."""
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'cut.jpg').write_bytes(b'\xff\xd8\xff')
    write_image(tmp_path / 'in' / 'good.png')
    out = tmp_path / 'out'
    result = tool('predict', run, tmp_path / 'in', check=False, out=out)
    assert result.returncode == 1
    assert 'cut.jpg is left out: OpenCV cannot decode it' in result.stdout
    assert ' on 1 images: ' in result.stdout
    assert '1 files could not be read, wholly or in part' in result.stdout
    assert 'Traceback' not in result.stdout
    assert_picture(out / 'good.png')


def test_an_empty_folder(run, tmp_path):
    (tmp_path / 'empty').mkdir()
    command = ('predict', run, tmp_path / 'empty')
    result = tool(*command, check=False, out=tmp_path / 'out')
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert last.startswith(f'{tmp_path}/empty: there is no image and no video')
    assert not (tmp_path / 'out').exists()


def test_without_supervision(run, monkeypatch):
    """One sentence, before anything takes time."""
    monkeypatch.setitem(sys.modules, 'supervision', None)
    code = end_of('predict', [run, 'no.jpg'], monkeypatch)
    assert "supervision>=0.31,<0.32'" in code and '\n' not in code


def test_an_interruption(run, tmp_path, monkeypatch, capsys):
    def save(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, 'save', save)
    args = [run, 'x.jpg', '--out', tmp_path]
    assert end_of('predict', args, monkeypatch) == 130
    said = capsys.readouterr().err
    assert f'interrupted: what was done is in {tmp_path}' in said
