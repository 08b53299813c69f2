"""What is on a photo: detect_onnx.py MODEL.onnx PHOTO OUT.png [SCORE]."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps

LINEAR, AFFINE = Image.Resampling.BILINEAR, Image.Transform.AFFINE


def new_size(size, steps):
    """Width and height of an image as the model's test takes it."""
    for step in (s for s in steps if s['type'].endswith('Resize')):
        scale = step.get('scale')
        if scale and not step.get('keep_ratio'):
            return scale
        k = scale and min(max(scale) / max(size), min(scale) / min(size))
        return [int(x * (k or step['scale_factor']) + 0.5) for x in size]
    return size


def paste(mask, box, size):
    """A mask of a box, probabilities, as one of the image (H, W)."""
    x, y = mask.shape[::-1] / np.maximum(box[2:] - box[:2], 1e-3)
    place = (x, 0, 1 - box[0] * x, 0, y, 1 - box[1] * y)
    padded = Image.fromarray(np.pad(mask, 1))
    return np.asarray(padded.transform(size, AFFINE, place, LINEAR))


def detect(session, image, least=0.5):
    """Yield the box, score, name and mask (or None) of what is seen."""
    meta = session.get_modelmeta().custom_metadata_map
    facts = {key: json.loads(value) for key, value in meta.items()}
    size, (w, h) = image.size, new_size(image.size, facts['test_pipeline'])
    x, y = size[0] / w, size[1] / h
    # resize() would smooth, which OpenCV's, that trained the model, does not
    image = image.transform((w, h), AFFINE, (x, 0, 0, 0, y, 0), LINEAR)
    image = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    boxes, scores, labels, *masks = session.run(None, {'images': image})
    boxes *= (x, y, x, y)
    for i in np.flatnonzero(scores >= least):
        mask = paste(masks[0][i], boxes[i], size) if masks else None
        inside = mask if mask is None else mask >= facts['mask_threshold']
        yield boxes[i], scores[i], facts['classes'][labels[i]], inside


if __name__ == '__main__':
    model, photo, out, *least = sys.argv[1:]
    picture = ImageOps.exif_transpose(Image.open(photo))
    assert picture.mode[0] not in 'IF', f'{photo} has more than 8 bits'
    picture = picture.convert('RGB')
    session = onnxruntime.InferenceSession(model)
    for box, score, name, mask in detect(session, picture, *map(float, least)):
        if mask is not None:
            picture.paste('red', mask=Image.fromarray(mask * np.uint8(90)))
        ImageDraw.Draw(picture).rectangle(box.tolist(), outline='red')
        print(f'{name} {score:.2f}', *(f'{x:.1f}' for x in box))
    picture.save(out)
