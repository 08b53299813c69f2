"""Pictures of what was detected."""

import numpy as np
import pytest

from halvit_mm.visualization import Painter

pytest.importorskip('supervision')
NOTHING = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
ONE = (np.array([[100.0, 200, 400, 300]]), np.array([0.5]), np.array([1]))


def draw(*found, name='b', size=(480, 640), palette=((9, 9, 9), (250, 0, 0))):
    image = np.full((*size, 3), 100, np.uint8)
    picture = Painter(['a', name], palette).draw(image, *found)
    assert (image == 100).all()
    return picture


def test_nothing_found():
    assert (draw(*NOTHING) == 100).all()
    assert (draw(*NOTHING, np.zeros((0, 480, 640), bool)) == 100).all()


def test_a_box_without_a_mask():
    picture = draw(*ONE)
    assert (picture[200, 110:390] == [0, 0, 250]).all()  # BGR
    assert (picture[210:290, 110:390] == 100).all()


@pytest.mark.parametrize('name', ['круг', 'Größe'])
def test_letters_of_any_name(name):
    """What a font lacks looks alike."""
    other = draw(*ONE, name='\ue000' * len(name))
    assert (draw(*ONE, name=name) != other).any()


@pytest.mark.parametrize(
    ('colour', 'text'), [((250, 250, 90), 0), ((10, 10, 90), 255)]
)
def test_text_is_legible(colour, text):
    """Black on light colours, white on dark ones."""
    label = draw(*ONE, palette=[(0, 0, 0), colour])[185:198, 100:130]
    assert (label == text).all(-1).any()
    assert (label == colour[::-1]).all(-1).any()


def test_small_images_are_enlarged():
    """By a whole factor, and the boxes with them."""
    boxes = np.array([[10.0, 20, 50, 40]])
    picture = draw(boxes, *ONE[1:], size=(100, 90))
    assert picture.shape == (600, 540, 3)
    assert (picture[120, 70:290] == [0, 0, 250]).all()
    assert (picture[240, 70:290] == [0, 0, 250]).all()
    assert draw(*NOTHING, size=(8, 900)).shape == (16, 1800, 3)
