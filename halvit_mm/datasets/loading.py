"""Images as 8 bits in three channels, whatever the file holds."""

import logging
from typing import Optional

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import transforms as mmdet_transforms
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmengine.fileio import get
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from ..registry import TRANSFORMS

_FLAGS = {
    'color': cv2.IMREAD_COLOR,
    'color_ignore_orientation': cv2.IMREAD_COLOR
    | cv2.IMREAD_IGNORE_ORIENTATION,
}


def to_eight_bits(
    img: np.ndarray, bit_depth: Optional[int] = None, name: str = 'the array'
) -> np.ndarray:
    """Bring an image to 8 bits and three channels.

    8-bit values stay. Other integers, 0 to ``2**bit_depth - 1``, and floats,
    0 to 1, are spread evenly over 0 to 255 and rounded: one scale for all
    images of a data set, so that a dark image stays a dark one.

    Args:
        img: (H, W), (H, W, 1), (H, W, 3) or, with alpha, (H, W, 4). Grey is
            repeated, alpha is dropped.
        bit_depth: Bits that the integers use, 8 to 16. None refuses them.
        name: What messages call the image.

    Returns:
        (H, W, 3), uint8.

    Raises:
        ValueError: If the shape is another, or values are out of range.
    """
    if img.ndim == 2:
        img = img[..., None]
    if img.ndim != 3 or img.shape[2] not in (1, 3, 4):
        raise ValueError(
            f'{name} has the shape {img.shape}: an image is (H, W) or '
            '(H, W, channels) with 1, 3 or 4 channels'
        )
    img = np.repeat(img, 3, axis=2) if img.shape[2] == 1 else img[..., :3]
    if img.dtype != np.uint8:
        img = _scale(img, bit_depth, name)
    return np.ascontiguousarray(img)


def _scale(img: np.ndarray, bit_depth: Optional[int], name: str) -> np.ndarray:
    low, high = img.min(), img.max()
    found = f'{name} holds {img.dtype} values from {low} to {high}'
    if img.dtype.kind == 'f':
        top, rule = 1, 'floats must be 0 to 1'
    elif bit_depth is None or img.dtype.kind not in 'iu':
        raise ValueError(
            f'{found}, not 8 bits. If they are integers that use N bits, 8 to '
            '16, set bit_depth=N in every LoadImageFromFile of the config'
        )
    else:
        top = 2**bit_depth - 1
        rule = f'with bit_depth={bit_depth} they must be 0 to {top}'
    if not 0 <= low <= high <= top:  # nor NaN
        raise ValueError(f'{found}: {rule}')
    return np.rint(np.multiply(img, 255 / top, dtype=np.float64)).astype('u1')


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Loads images as :func:`to_eight_bits` describes, decoded by OpenCV.

    CMYK and palettes become colours; of a GIF or a TIFF with several pages it
    is the first one. Alpha is dropped, after libtiff has multiplied the
    colours of an 8-bit TIFF by it where they were not yet.

    mmdet's ``DetInferencer`` and ``inference_detector`` replace the loader of
    the test pipeline by their own. Written as
    ``dict(type='LoadImageFromFile', _scope_='halvit_mm')`` it reads files and
    arrays there as well.

    Args:
        max_broken: Number of images that may be skipped because they cannot
            be decoded, counted in each worker process. With 0, as in
            evaluation, the first broken image is an error.
        bit_depth: Bits that images of more than 8 bits use, 8 to 16; by
            default such images are refused.
        color_type: ``'color'``, or ``'color_ignore_orientation'`` to leave
            images as they are stored, not turned by their EXIF orientation.
        to_float32: Whether ``img`` is float32, 0 to 255, instead of uint8.
        backend_args: Of ``mmengine.fileio.get``.

    Raises:
        ValueError: If an option has another value.
    """

    def __init__(
        self,
        max_broken: int = 0,
        bit_depth: Optional[int] = None,
        color_type: str = 'color',
        to_float32: bool = False,
        backend_args: Optional[dict] = None,
    ) -> None:
        if bit_depth not in (None, *range(8, 17)):
            raise ValueError(f'bit_depth={bit_depth!r}: None or 8 to 16')
        if color_type not in _FLAGS:
            raise ValueError(
                f'color_type={color_type!r}: choose one of {list(_FLAGS)}'
            )
        self.max_broken = max_broken
        self.bit_depth = bit_depth
        self.color_type = color_type
        self.to_float32 = to_float32
        self.backend_args = backend_args
        self.broken = []

    def transform(self, results: dict) -> Optional[dict]:
        """Load ``results['img_path']`` as ``img``, (H, W, 3).

        None means that the image is skipped; the data set takes another one.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be decoded and no more may be skipped, if
                its values are out of range, or if its size is not ``height``
                and ``width`` of the annotations.
        """
        path = results['img_path']
        try:
            img = self._decode(path)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, cv2.error) as error:
            return self._skip(path, error)
        self._check_size(results, img.shape[:2])
        return self.set_image(results, img, path)

    def set_image(self, results: dict, img: np.ndarray, name: str) -> dict:
        """Set ``img``, ``img_shape`` and ``ori_shape`` of a loaded image."""
        img = to_eight_bits(img, self.bit_depth, name)
        results['img'] = img.astype(np.float32) if self.to_float32 else img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results

    def _decode(self, path: str) -> np.ndarray:
        content = np.frombuffer(
            get(path, backend_args=self.backend_args), np.uint8
        )
        any_depth = _FLAGS[self.color_type] | cv2.IMREAD_ANYDEPTH
        # A grey TIFF of floats can be read only as it is.
        for flag in (any_depth, cv2.IMREAD_UNCHANGED):
            img = cv2.imdecode(content, flag)
            if img is not None:
                return img
        raise ValueError('OpenCV cannot decode it')

    def _check_size(self, results: dict, size: tuple) -> None:
        expected = results.get('height'), results.get('width')
        if None in expected or size == expected:
            return
        cure = 'correct height and width, and the boxes, in the annotations'
        if size == expected[::-1]:
            (other,) = _FLAGS.keys() - {self.color_type}
            cure = (
                'if its EXIF orientation is the reason, set '
                f'color_type={other!r} in every LoadImageFromFile; else {cure}'
            )
        raise ValueError(
            f'{results["img_path"]} is {size[0]} x {size[1]} pixels (height x '
            f'width), but {expected[0]} x {expected[1]} in the annotations: '
            f'{cure}'
        )

    def _skip(self, path: str, error: Exception) -> None:
        if path not in self.broken:
            self.broken.append(path)
        if len(self.broken) > self.max_broken:
            raise ValueError(
                f'cannot decode {len(self.broken)} image(s), '
                f'{self.max_broken} may be skipped: {self.broken}. Of a data '
                'set, tools/dataset_converters/check_dataset.py --decode '
                'finds all'
            ) from error
        print_log(
            f'cannot decode {path}: skipped '
            f'({len(self.broken)} of at most {self.max_broken})',
            logger='current',
            level=logging.WARNING,
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_broken={self.max_broken}, '
            f'bit_depth={self.bit_depth}, color_type={self.color_type!r}, '
            f'to_float32={self.to_float32}, '
            f'backend_args={self.backend_args})'
        )


@MMDET_TRANSFORMS.register_module(force=True)
class LoadImageFromNDArray(mmdet_transforms.LoadImageFromNDArray):
    """mmdet's, which in a pipeline of ours treats arrays as files.

    It takes mmdet's place in the registry because mmdet's inference asks for
    it by this name. The arguments are those of our loader where the pipeline
    names our scope, and mmdet's elsewhere, where nothing changes.
    """

    def __init__(self, **kwargs) -> None:
        scope = DefaultScope.get_current_instance()
        is_ours = scope is not None and scope.scope_name == TRANSFORMS.scope
        self.loader = LoadImageFromFile(**kwargs) if is_ours else None
        super().__init__(**({} if is_ours else kwargs))

    def transform(self, results: dict) -> dict:
        """Set ``img``, ``img_shape`` and ``ori_shape`` from ``img``."""
        if self.loader is None:
            return super().transform(results)
        results['img_path'] = None
        return self.loader.set_image(results, results['img'], 'the array')
