"""Pictures of detections, also of data that have holes."""

import json

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from halvit_mm.datasets.coco_check.missing import leaves
from halvit_mm.visualization import draw_detections

COLOUR = np.array(colormaps['tab10'](0)[:3])
SIZE = (60, 80)  # height and width
BOX = [10, 10, 40, 30]
POLYGON = [10, 10, 50, 10, 50, 40, 10, 40]
#: Columns of ones and zeros: an uncompressed RLE of the left half.
LEFT = dict(size=list(SIZE), counts=[0, 60 * 40, 60 * 40])


@pytest.fixture
def draw(tmp_path):
    """Draws images with such annotations; what was left out, and pixels."""

    def apply(annotations, results=(), num_images=1, **kwargs):
        images = [
            dict(id=i, file_name=f'{i}.png', height=SIZE[0], width=SIZE[1])
            for i in range(1, num_images + 1)
        ]
        defaults = dict(image_id=1, category_id=7, iscrowd=0)
        annotations = [
            dict(defaults, id=i, **annotation)
            for i, annotation in enumerate(annotations, 1)
        ]
        categories = [dict(id=7, name='thing')]
        truth = dict(
            images=images, annotations=annotations, categories=categories
        )
        for name, content in (('truth', truth), ('results', results)):
            (tmp_path / f'{name}.json').write_text(json.dumps(content))
        out = tmp_path / 'out.png'
        paths = (tmp_path / 'truth.json', tmp_path, tmp_path / 'results.json')
        skipped = draw_detections(*map(str, paths), str(out), **kwargs)
        return skipped, plt.imread(out)[..., :3]

    for number in (1, 2, 3):
        black = np.zeros((*SIZE, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{number}.png'), black)
    return apply


def count(pixels, colour):
    return (np.abs(pixels - colour).max(-1) < 0.02).sum()


@pytest.mark.parametrize(
    ('annotation', 'is_filled'),
    [
        (dict(bbox=BOX), False),
        (dict(bbox=BOX, segmentation=[]), False),
        (dict(bbox=BOX, segmentation=None), False),
        (dict(bbox=BOX, segmentation=[[]]), False),
        (dict(bbox=BOX, segmentation=[[10, 10, 20, 20]]), False),
        (dict(bbox=BOX, segmentation=[[], POLYGON]), True),
        (dict(bbox=BOX, segmentation=LEFT), True),
        (dict(bbox=[], segmentation=[POLYGON]), True),
        (dict(segmentation=[POLYGON]), True),
    ],
)
def test_masks_and_boxes(draw, annotation, is_filled):
    result = dict(annotation, image_id=1, category_id=7, score=0.9)
    for annotations, results in ([annotation], []), ([], [result]):
        skipped, pixels = draw(annotations, results)
        assert skipped == {}
        assert count(pixels, COLOUR) > 100  # frame and label
        assert (count(pixels, COLOUR / 2) > 1000) == is_filled


def test_what_has_neither_is_counted(draw):
    nothing = dict(bbox=[], segmentation=[])
    nothing.update(image_id=1, category_id=7, score=0.9)
    skipped, pixels = draw([dict(bbox=BOX)], [nothing, nothing])
    assert skipped == {'objects without box and mask': 2}
    assert count(pixels, COLOUR) > 100


def test_low_scores_are_not_drawn(draw):
    result = dict(image_id=1, category_id=7, bbox=BOX, score=0.4)
    assert count(draw([], [result])[1], COLOUR) == 0
    assert count(draw([], [result], score_thr=0.4)[1], COLOUR) > 100


def test_missing_and_broken_images(draw, tmp_path):
    (tmp_path / '1.png').unlink()
    (tmp_path / '2.png').write_bytes(b'no picture')
    skipped, pixels = draw([], num_images=3)
    assert skipped == {'missing or broken images': 2}
    width = pixels.shape[1]
    assert width == draw([], num_images=3)[1].shape[1] < 300  # one column
    (tmp_path / '3.png').unlink()
    with pytest.raises(ValueError, match='no image of .* can be read'):
        draw([], num_images=3)
    with pytest.raises(ValueError, match='it has no "images"'):
        draw([], num_images=0)


@pytest.mark.parametrize('wrong', [dict(image_id=4), dict(category_id=8)])
def test_results_of_other_data(draw, wrong):
    result = dict(image_id=1, category_id=7, bbox=BOX, score=0.9)
    with pytest.raises(ValueError, match='not of these annotations'):
        draw([], [result | wrong])


def test_sizes(draw, tmp_path):
    """Before or after its EXIF orientation, but no third one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for size in (SIZE, SIZE[::-1]):
        black = Image.new('RGB', size[::-1])
        black.save(tmp_path / '1.png', exif=exif)
        _, pixels = draw([dict(segmentation=[POLYGON])])
        assert count(pixels, COLOUR / 2) > 1000
    Image.new('RGB', (9, 9)).save(tmp_path / '1.png')
    with pytest.raises(ValueError, match='is 9 x 9 pixels.* but 60 x 80'):
        draw([])


def test_dark_sixteen_bits_are_visible(draw, tmp_path):
    grey = np.full(SIZE, 2048, np.uint16)
    grey[0] = 4096
    cv2.imwrite(str(tmp_path / '1.png'), grey)
    assert count(draw([])[1], 0.5) > 1000


HUGE = dict(size=[10**5, 10**5], counts=[0, 4 * 10**9, 0, 4 * 10**9])
SCRIBBLE = [(-1) ** (i // 2) * 9.9e5 for i in range(2000)]
WRONG = {
    'a large mask': (dict(segmentation=HUGE), r'mask is of \[100000, 1000'),
    'a cut mask': (dict(segmentation=dict(LEFT, counts='zz')), 'RLE. is cut'),
    'no counts': (dict(segmentation=dict(size=list(SIZE))), 'RLE. is cut'),
    'text for a mask': (dict(segmentation='x' * 999), 'mask is of .x'),
    'text for a score': (dict(score='0.9'), "score is no number but '0.9'"),
    'no score': (dict(score=None), 'score is no number but None'),
    'a score without end': (dict(score=float('nan')), 'no number but nan'),
    'a long score': (dict(score=10**400), 'its score is no number but 1000'),
    'a far box': (dict(bbox=[1e300] * 4), 'bbox is not of numbers to 10000'),
    'half a box': (dict(bbox=[1, 2]), 'bbox is not x, y, width, height'),
    'an image of text': (dict(image_id=[1]), 'not of these annotations'),
}


@pytest.mark.parametrize('what', WRONG)
def test_a_detection_that_is_none_is_refused_by_number(draw, what):
    result = dict(image_id=1, category_id=7, bbox=BOX, score=0.9)
    wrong, message = WRONG[what]
    message = (
        f'(?s)results.json cannot be used:.*detection 1 of 2: .*{message}'
    )
    with pytest.raises(ValueError, match=message):
        draw([], [result, {**result, **wrong}])


def test_results_that_are_no_list(draw):
    with pytest.raises(ValueError, match='holds a dict, not a list of dete'):
        draw([], {})
    with pytest.raises(ValueError, match="it is no object but 'x'"):
        draw([], ['x'])


def test_a_polygon_longer_than_any_image_is_left_out(draw):
    """Pycocotools would take 80 bytes for each pixel of its length."""
    skipped, _ = draw([dict(bbox=BOX, segmentation=[SCRIBBLE])])
    assert skipped == {}


@pytest.mark.parametrize(
    ('folder', 'name', 'is_outside'),
    [
        ('/', '/etc/passwd', False),
        ('/etc', '/etc/passwd', False),
        ('/et', '/etc/passwd', True),
        ('/etc/..', '../etc/passwd', False),
        ('/usr', '../etc/passwd', True),
        ('/usr', '../etc/\0', False),
    ],
)
def test_what_is_outside(folder, name, is_outside):
    assert leaves(folder, name) is is_outside


def test_images_outside_of_the_folder(draw, tmp_path):
    draw([])
    truth = json.loads((tmp_path / 'truth.json').read_text())
    (tmp_path / 'below').mkdir()
    paths = [str(tmp_path / name) for name in ('truth.json', 'below')]
    for name in ('../1.png', str(tmp_path / '1.png'), '/dev/zero'):
        truth['images'][0]['file_name'] = name
        (tmp_path / 'truth.json').write_text(json.dumps(truth))
        with pytest.raises(ValueError, match='1 file names leave the folder'):
            draw_detections(*paths, str(tmp_path / 'results.json'), 'out.png')
