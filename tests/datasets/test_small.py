"""iNaturalist's annotations, and images that are kept in memory."""

import json

import cv2
import numpy as np
import pytest

from halvit_mm.datasets import ImagesInMemory, INaturalist


def write_inaturalist(tmp_path, **changes):
    content = dict(
        images=[
            dict(id=10, file_name='train_val2018/a/1.jpg'),
            dict(id=11, file_name='train_val2018/b/2.jpg'),
        ],
        annotations=[
            dict(id=1, image_id=11, category_id=7),
            dict(id=2, image_id=10, category_id=3),
        ],
        categories=[dict(id=7), dict(id=5), dict(id=3)],
    )
    content.update(changes)
    content = {k: v for k, v in content.items() if v is not None}
    (tmp_path / 'train2018.json').write_text(json.dumps(content))


def test_labels_are_ranks_of_the_ids(tmp_path):
    write_inaturalist(tmp_path)
    data = INaturalist(str(tmp_path), 'train2018')
    found = [
        (d['img_path'], d['gt_label'])
        for d in map(data.get_data_info, range(2))
    ]
    assert found == [
        (str(tmp_path / 'train_val2018/b/2.jpg'), 2),
        (str(tmp_path / 'train_val2018/a/1.jpg'), 0),
    ]


def test_messages(tmp_path):
    with pytest.raises(FileNotFoundError, match='train2018.json'):
        INaturalist(str(tmp_path), 'train2018')
    write_inaturalist(tmp_path, annotations=None)
    with pytest.raises(ValueError, match=r"lacks \['annotations'\]"):
        INaturalist(str(tmp_path), 'train2018')


def test_images_stay_in_the_folder(tmp_path):
    root = tmp_path / 'root'
    root.mkdir()
    (tmp_path / '1.jpg').touch()
    write_inaturalist(root, images=[dict(id=10, file_name='../1.jpg')])
    with pytest.raises(ValueError, match=r'2018.json: ../1.jpg leaves .*root'):
        INaturalist(str(root), 'train2018')
    (root / 'train2018.json').write_text('[' * 10**5)
    with pytest.raises(ValueError, match='(?s)2018.json.* no whole JSON'):
        INaturalist(str(root), 'train2018')


def test_images_in_memory(tmp_path):
    images = {}
    for name in ('cat', 'dog'):
        (tmp_path / 'train' / name).mkdir(parents=True)
        image = np.full((4, 6, 3), len(images) * 90 + 20, np.uint8)
        image[..., 2] = 255  # red, in BGR
        cv2.imwrite(str(tmp_path / 'train' / name / '0.png'), image)
        images[name] = image
    data = ImagesInMemory(data_root=str(tmp_path), data_prefix='train')
    for i, name in enumerate(images):
        path = tmp_path / 'train' / name / '0.png'
        path.unlink()  # it is not read again
        sample = data[i]
        assert sample['gt_label'] == i
        assert np.array_equal(sample['img'], images[name])


def test_every_nth_image_is_held_out(tmp_path):
    for name in ('cat', 'dog'):
        (tmp_path / name).mkdir()
        for i in range(20):
            image = np.full((1, 1, 3), i, np.uint8)
            cv2.imwrite(str(tmp_path / name / f'{i:02}.png'), image)
    rest, held_out = (
        ImagesInMemory(data_root=str(tmp_path), hold_out=10, held_out=value)
        for value in (False, True)
    )
    found = [(x['gt_label'], int(x['img'][0, 0, 0])) for x in held_out]
    assert found == [(0, 0), (0, 10), (1, 0), (1, 10)]
    others = [(x['gt_label'], int(x['img'][0, 0, 0])) for x in rest]
    assert len(others) == 36 and not set(others) & set(found)


def test_an_image_that_cannot_be_read(tmp_path):
    (tmp_path / 'train' / 'cat').mkdir(parents=True)
    path = tmp_path / 'train' / 'cat' / '0.png'
    path.write_bytes(b'nothing')
    with pytest.raises(ValueError, match=f'{path.name} is no image'):
        ImagesInMemory(data_root=str(tmp_path), data_prefix='train')
