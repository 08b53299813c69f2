"""mmcv's operators through torchvision, against independent definitions."""

import importlib
import itertools

import mmcv.ops
import mmengine.logging
import numpy as np
import pytest
import torch
import torchvision
from mmcv.utils.env import collect_env
from mmcv.utils.ext_loader import load_ext

from halvit_mm.compat import ops_backend, torchvision_ops

pytestmark = pytest.mark.skipif(
    ops_backend() == 'native', reason='a compiled mmcv needs no stand-in'
)


def random_boxes(number, seed=0):
    """Boxes that overlap often, (N, 4), and distinct scores, (N,)."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (number, 2)), rng.uniform(8, 40, 2)
    size = size * rng.uniform(0.7, 1.4, (number, 2))
    boxes = np.concatenate((corner, corner + size), axis=1)
    scores = rng.permutation(np.linspace(0.05, 0.95, number))
    return boxes.astype(np.float32), scores.astype(np.float32)


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return width * height / (areas - width * height)


def naive_nms(boxes, scores, iou_threshold):
    kept = []
    for i in np.argsort(-scores):
        if all(iou(boxes[i], boxes[j]) <= iou_threshold for j in kept):
            kept.append(i)
    return kept


def naive_soft_nms(boxes, scores, weigh, min_score):
    """Take the best, lower what is left by ``weigh(iou)``, and again."""
    left = dict(enumerate(scores.astype(np.float64)))
    kept = []
    while left:
        best = max(left, key=left.get)
        kept.append((best, left.pop(best)))
        left = {
            i: score * weigh(iou(boxes[best], boxes[i]))
            for i, score in left.items()
        }
        left = {i: score for i, score in left.items() if score >= min_score}
    return kept


def to_torch(*arrays):
    return tuple(map(torch.from_numpy, arrays))


#: In double precision also where float32 tells only every eighth pixel.
PRECISIONS = [(np.float32, 0.0), (np.float64, 2.0**26)]


@pytest.mark.parametrize(('dtype', 'shift'), PRECISIONS)
@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('iou_threshold', [0.3, 0.7])
def test_nms(iou_threshold, seed, dtype, shift):
    boxes, scores = (x.astype(dtype) for x in random_boxes(60, seed))
    moved = boxes + dtype(shift)
    dets, inds = mmcv.ops.nms(*to_torch(moved, scores), iou_threshold)
    expected = naive_nms(boxes, scores, iou_threshold)
    assert 1 < len(expected) < 60
    assert inds.tolist() == expected
    assert torch.equal(dets[:, :4], torch.from_numpy(moved[expected]))
    assert torch.equal(dets[:, 4], torch.from_numpy(scores[expected]))


def test_nms_filters_scores_and_cuts():
    boxes, scores = random_boxes(60)
    inds = mmcv.ops.nms(
        *to_torch(boxes, scores), 0.5, score_threshold=0.3, max_num=4
    )[1]
    expected = [i for i in naive_nms(boxes, scores, 0.5) if scores[i] > 0.3]
    assert len(expected) > 4
    assert inds.tolist() == expected[:4]


@pytest.mark.parametrize(('dtype', 'shift'), PRECISIONS)
@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(
    ('method', 'weigh'),
    [
        ('naive', lambda x: 0.0 if x >= 0.3 else 1.0),
        ('linear', lambda x: 1 - x if x >= 0.3 else 1.0),
        ('gaussian', lambda x: np.exp(-(x**2) / 0.4)),
    ],
    ids=['naive', 'linear', 'gaussian'],
)
def test_soft_nms(method, weigh, seed, dtype, shift):
    boxes, scores = (x.astype(dtype) for x in random_boxes(40, seed))
    moved = boxes + dtype(shift)
    dets, inds = mmcv.ops.soft_nms(
        *to_torch(moved, scores),
        iou_threshold=0.3,
        sigma=0.4,
        min_score=0.15,
        method=method,
    )
    expected, lowered = zip(*naive_soft_nms(boxes, scores, weigh, 0.15))
    assert 1 < len(expected) < 40  # some were dropped
    assert inds.tolist() == list(expected)
    assert torch.equal(dets[:, :4], torch.from_numpy(moved[list(expected)]))
    rtol = 1e-5 if dtype == np.float32 else 1e-6
    np.testing.assert_allclose(dets[:, 4], lowered, rtol=rtol)


def test_soft_nms_leaves_its_inputs_alone():
    boxes, scores = to_torch(*random_boxes(20))
    before = boxes.clone(), scores.clone()
    mmcv.ops.soft_nms(boxes, scores, method='linear')
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])


@pytest.mark.parametrize('split_thr', [10_000, 5])
def test_batched_nms_works_class_by_class(split_thr):
    boxes, scores = random_boxes(60)
    classes = np.arange(60) % 3
    cfg = dict(type='nms', iou_threshold=0.3, split_thr=split_thr)
    dets, keep = mmcv.ops.batched_nms(*to_torch(boxes, scores, classes), cfg)
    expected = []
    for c in range(3):
        (own,) = np.nonzero(classes == c)
        expected += own[naive_nms(boxes[own], scores[own], 0.3)].tolist()
    expected.sort(key=lambda i: -scores[i])
    assert keep.tolist() == expected
    assert torch.equal(dets[:, :4], torch.from_numpy(boxes[expected]))


@pytest.mark.parametrize('op', [mmcv.ops.nms, mmcv.ops.soft_nms])
def test_no_boxes(op):
    dets, inds = op(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert inds.shape == (0,)
    assert inds.dtype == torch.int64


def align(function, x, rois, grad):
    """Output and gradient of RoIAlign."""
    x = x.clone().requires_grad_()
    out = function(x, rois)
    out.backward(grad)
    return out.detach(), x.grad


@pytest.mark.parametrize(
    'dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16]
)
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_equals_torchvision(dtype, sampling_ratio, aligned):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 20, 25, generator=generator).to(dtype)
    boxes = torch.from_numpy(random_boxes(9)[0])
    rois = torch.cat((torch.arange(9)[:, None] % 2, boxes), 1).to(dtype)
    grad = torch.randn(9, 3, 7, 5, generator=generator).to(dtype)
    settings = dict(
        spatial_scale=0.25, sampling_ratio=sampling_ratio, aligned=aligned
    )
    ours = mmcv.ops.RoIAlign((7, 5), **settings)
    reference = torchvision.ops.RoIAlign((7, 5), **settings)
    result = align(ours, x, rois, grad)
    # Reduced precision: computed in float32, rounded once at the end.
    exact = torch.promote_types(dtype, torch.float32)
    wanted = align(reference, x.to(exact), rois.to(exact), grad.to(exact))
    for one, other in zip(result, wanted):
        assert one.dtype == dtype
        assert other.abs().max() > 0.1
        assert torch.equal(one, other.to(dtype))


def bilinear(grid, y, x):
    """The value of a map (H, W) between its cells, 0 far outside."""
    height, width = grid.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = grid[top, left] * (1 - dx) + grid[top, right] * dx
    lower = grid[bottom, left] * (1 - dx) + grid[bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def naive_roi_align(x, rois, size, scale, samples, aligned):
    """Each bin is the mean of ``samples`` x ``samples`` points."""
    out = np.zeros((len(rois), x.shape[1], *size))
    steps = (np.arange(samples) + 0.5) / samples
    for k, (image, *box) in enumerate(rois):
        x1, y1, x2, y2 = np.array(box) * scale - 0.5 * aligned
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        bins = height / size[0], width / size[1]
        for c, i, j in np.ndindex(out.shape[1:]):
            out[k, c, i, j] = np.mean(
                [
                    bilinear(
                        x[int(image), c],
                        y1 + bins[0] * (i + dy),
                        x1 + bins[1] * (j + dx),
                    )
                    for dy, dx in itertools.product(steps, steps)
                ]
            )
    return out


@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_in_double_precision(aligned):
    """Exact to the last digits, and so is its gradient."""
    x = torch.randn(2, 2, 6, 7, dtype=torch.float64)
    boxes = random_boxes(4)[0].astype(np.float64)
    rois = np.concatenate((np.arange(4)[:, None] % 2, boxes), axis=1)
    roi_align = mmcv.ops.RoIAlign(
        (2, 3), spatial_scale=0.125, sampling_ratio=2, aligned=aligned
    )
    out = roi_align(x, torch.from_numpy(rois))
    expected = naive_roi_align(x.numpy(), rois, (2, 3), 0.125, 2, aligned)
    assert out.dtype == torch.float64
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda x: roi_align(x, torch.from_numpy(rois)), x.requires_grad_()
    )


def test_roi_align_without_boxes():
    out, grad = align(
        mmcv.ops.RoIAlign(7),
        torch.randn(1, 3, 8, 8),
        torch.zeros(0, 5),
        torch.zeros(0, 3, 7, 7),
    )
    assert out.shape == (0, 3, 7, 7)
    assert torch.equal(grad, torch.zeros(1, 3, 8, 8))


def deform_conv():
    x = torch.zeros(1, 2, 4, 4)
    weight, offset = torch.zeros(2, 2, 1, 1), torch.zeros(1, 2, 4, 4)
    mmcv.ops.deform_conv2d(x, offset, weight)


def focal_loss():
    mmcv.ops.sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2).long())


@pytest.mark.parametrize(
    ('call', 'name'),
    [
        (deform_conv, 'deform_conv_forward'),
        (focal_loss, 'sigmoid_focal_loss_forward'),
    ],
)
def test_other_operators_name_themselves_and_the_cure(call, name):
    with pytest.raises(NotImplementedError) as info:
        call()
    assert f'operator {name} needs' in str(info.value)
    assert 'pip install --no-build-isolation' in str(info.value)


@pytest.mark.parametrize('op', [mmcv.ops.nms, mmcv.ops.soft_nms])
def test_old_box_convention_is_refused(op):
    boxes, scores = to_torch(*random_boxes(3))
    with pytest.raises(NotImplementedError, match='offset=1 .*compiled mmcv'):
        op(boxes, scores, 0.5, offset=1)


def test_max_pooling_is_refused():
    pool = mmcv.ops.RoIAlign(7, pool_mode='max')
    with pytest.raises(NotImplementedError, match="'max' .*compiled mmcv"):
        pool(torch.zeros(1, 1, 8, 8), torch.zeros(1, 5))


def test_collect_env_says_that_nothing_was_compiled():
    env = collect_env()
    assert env['MMCV Compiler'] == env['MMCV CUDA Compiler'] == 'n/a'


@pytest.mark.parametrize('name', ['__wrapped__', '__no_such_thing__'])
def test_dunder_names_do_not_exist(name):
    module = importlib.import_module('mmcv._ext')
    with pytest.raises(AttributeError, match=name):
        getattr(module, name)


def test_said_once_at_first_use(monkeypatch):
    boxes, scores = to_torch(*random_boxes(3))
    said = []
    monkeypatch.setattr(
        mmengine.logging, 'print_log', lambda text, **kwargs: said.append(text)
    )
    torchvision_ops._log_first_use.cache_clear()
    load_ext('_ext', ['nms', 'softnms', 'roi_align_forward'])
    assert not said  # what mmcv does at import is no use
    for _ in range(2):
        mmcv.ops.nms(boxes, scores, 0.5)
        mmcv.ops.soft_nms(boxes, scores)
    (text,) = said
    assert 'torchvision' in text
