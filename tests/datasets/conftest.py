"""A drawn COCO data set whose annotations each test may spoil."""

import pytest
from mmengine.logging import MMLogger

from halvit_mm.datasets.shapes import draw_detection_split

from .truth import ANN_FILE, build, objects


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes')
    draw_detection_split(root, 'train', 6, size=96, seed=0)
    return root


@pytest.fixture
def root(drawn, tmp_path):
    """A folder of its own annotations and the same images."""
    (tmp_path / 'annotations').mkdir()
    (tmp_path / ANN_FILE).write_text((drawn / ANN_FILE).read_text())
    (tmp_path / 'train').symlink_to(drawn / 'train')
    return tmp_path


@pytest.fixture(scope='module')
def clean(drawn):
    return objects(build(drawn))


@pytest.fixture
def log(caplog):
    """What mmengine's logger says; it propagates to no other."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
