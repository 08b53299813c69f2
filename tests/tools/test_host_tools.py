"""The hosts' own tools on what we have trained: those that the docs name."""

import re
import sys

import pytest

from halvit_mm import host

from ..commands import ROOT, run
from .conftest import DETECTOR, assert_picture, tool

MMDET = 'mmdet/analysis_tools'
NAMED = {
    'mmdet/test',
    f'{MMDET}/browse_dataset',
    f'{MMDET}/confusion_matrix',
    f'{MMDET}/analyze_results',
}


@pytest.fixture(scope='module')
def tested(detected, tmp_path_factory):
    """The config that training has written, and mmdet's results."""
    (config,) = detected.glob('*.py')
    out = tmp_path_factory.mktemp('host')
    # As a user does: nothing imports our package but `-m`.
    output = run(
        *(sys.executable, '-m', 'halvit_mm.host', 'mmdet/test', config),
        *(detected / 'epoch_1.pth', '--work-dir', out),
        *('--out', out / 'results.pkl'),
    ).stdout
    assert 'coco/segm_mAP_50: ' in output
    return config, out / 'results.pkl'


def host_tool(*args):
    return tool('../halvit_mm/host', *args)


def test_browse_dataset(tested, tmp_path):
    args = (tested[0], '--output-dir', tmp_path, '--not-show')
    host_tool(f'{MMDET}/browse_dataset', *args)
    pictures = sorted(tmp_path.iterdir())
    assert len(pictures) == 10  # all images of training
    assert_picture(pictures[0])


def test_confusion_matrix(tested, tmp_path):
    host_tool(f'{MMDET}/confusion_matrix', *tested, tmp_path)
    assert_picture(tmp_path / 'confusion_matrix.png')


def test_analyze_results(tested, tmp_path):
    args = (*tested, tmp_path, '--topk', 1)
    host_tool(f'{MMDET}/analyze_results', *args)
    for kind in ('good', 'bad'):
        (picture,) = (tmp_path / kind).iterdir()
        assert_picture(picture)


def test_only_what_is_tested_is_named():
    named = set()
    for page in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        named.update(re.findall(r'halvit_mm\.host (mm\S+)', page.read_text()))
    assert named == NAMED
    assert named < host.tools().keys()


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('test', "several tools are called 'test'; .* mmdet/test, mmpre"),
        ('no', "no tool 'no'; there are mmdet/analysis_tools/analyze_logs,"),
        ('', "no tool ''; there are"),
    ],
)
def test_names(name, message):
    with pytest.raises(SystemExit, match=message):
        host.main([name, DETECTOR] if name else [])
