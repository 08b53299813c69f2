"""Parts of a run that do not fit are refused before its first step."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook
from torch import nn

from halvit_mm.checkpoint import load_weights, loading, save_weights
from halvit_mm.engine import AgreementHook

CATS, DOGS = ('cat', 'lynx'), ('dog', 'wolf')


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.fc_cls = nn.Linear(4, num_classes + 1)
        self.shared = nn.Linear(4, 4)


class Detector(nn.Module):
    def __init__(self, num_classes=2):
        super().__init__()
        self.rpn_head = Head(1)
        self.bbox_head = Head(num_classes)


def loop(classes, *metrics, **kwargs):
    dataset = SimpleNamespace(metainfo=dict(classes=classes), **kwargs)
    return SimpleNamespace(
        dataloader=SimpleNamespace(dataset=dataset),
        evaluator=SimpleNamespace(metrics=metrics),
    )


def runner(train=CATS, val=None, model=None, hooks=()):
    return SimpleNamespace(
        model=model or Detector(),
        train_loop=loop(train),
        val_loop=val and loop(val),
        test_loop=loop(train),
        hooks=hooks,
    )


def test_parts_that_fit():
    hook = AgreementHook()
    hook.before_train(runner(val=CATS))
    hook.before_test(runner())
    hook.after_load_checkpoint(runner(), dict(meta=dict(epoch=1)))
    meta = dict(dataset_meta=dict(classes=list(CATS)), epoch=1)
    hook.after_load_checkpoint(runner(), dict(meta=meta))


@pytest.mark.parametrize('name', ['before_train', 'before_test'])
def test_another_number_of_classes(name):
    hook, other = AgreementHook(), runner(model=Detector(80))
    message = r'model.bbox_head.num_classes=80, but the data set has 2 .*auto'
    with pytest.raises(ValueError, match=message):
        getattr(hook, name)(other)


def test_another_number_of_classes_in_a_cascade():
    model = Detector()
    model.bbox_head = nn.ModuleList([Head(2), Head(80)])
    with pytest.raises(ValueError, match='model.bbox_head.1.num_classes=80'):
        AgreementHook().before_test(runner(model=model))


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (DOGS, 'evaluation has 2 classes: dog, wolf; that of the training'),
        (CATS[::-1], 'the same classes in another order'),
    ],
)
def test_other_classes_in_evaluation(classes, message):
    with pytest.raises(ValueError, match=message):
        AgreementHook().before_train(runner(val=classes))


def test_the_metric_sees_the_data_set():
    seen = []
    metric = SimpleNamespace(check_dataset=seen.append)
    other = runner()
    other.val_loop = loop(CATS, metric)
    AgreementHook().before_train(other)
    assert seen == [other.val_loop.dataloader.dataset]


def best(*names):
    return [CheckpointHook(save_best=list(names), rule='greater')]


def test_scores_that_are_not_evaluated():
    other = runner(hooks=best('coco/segm_mAP'))
    metric = SimpleNamespace(metrics=['bbox'], prefix='coco')
    other.val_loop = loop(CATS, metric)
    with pytest.raises(ValueError, match="segm_mAP: .*=\\['bbox'\\] does not"):
        AgreementHook().before_train(other)
    metric.metrics.append('segm')
    AgreementHook().before_train(other)


def test_scores_that_an_evaluation_lacks_are_never_the_best():
    scores = {'coco/bbox_mAP': 0.5}
    other = runner(hooks=best('coco/bbox_mAP', 'coco/bbox_mAP_l'))
    AgreementHook().after_val_epoch(other, scores)
    assert scores.pop('coco/bbox_mAP') == 0.5
    assert not scores.pop('coco/bbox_mAP_l') >= -1 and not scores
    # the host says that there are none
    AgreementHook().after_val_epoch(other, scores)
    assert not scores


def test_resuming_with_other_classes():
    meta = dict(dataset_meta=dict(classes=DOGS), epoch=1)
    message = 'cannot be resumed: the checkpoint has 2 classes: dog, wolf'
    with pytest.raises(ValueError, match=message):
        AgreementHook().after_load_checkpoint(runner(), dict(meta=meta))


def test_resuming_from_weights_only():
    with pytest.raises(ValueError, match='weights only; start from them with'):
        AgreementHook().after_load_checkpoint(runner(), {})


@pytest.fixture
def weights(tmp_path):
    model = Detector()
    path = tmp_path / 'dogs.safetensors'
    save_weights(path, model.state_dict(), classes=DOGS)
    return model, path


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return {k for k in a if torch.equal(a[k], b[k])}


@pytest.mark.parametrize('count', [2, 5])
def test_starting_from_other_classes(weights, count):
    there, path = weights
    model = Detector(count)
    before = model.bbox_head.fc_cls.weight.clone()
    classes = [f'c{i}' for i in range(count)]
    hook = AgreementHook(load_from=path)
    hook.before_train(runner(classes, model=model))
    kept = {name for name in there.state_dict() if 'fc_cls' not in name}
    assert kept <= same(there, model)
    assert torch.equal(model.bbox_head.fc_cls.weight, before)


def test_starting_from_the_same_classes(weights):
    there, path = weights
    model = Detector()
    AgreementHook(load_from=path).before_train(runner(DOGS, model=model))
    assert same(there, model) == set(there.state_dict())


def test_starting_from_another_architecture(weights):
    _, path = weights
    hook, model = AgreementHook(load_from=path), Detector()
    model.mask_head = nn.Linear(4, 4)
    with pytest.raises(ValueError, match='does not fit Detector') as info:
        hook.before_train(runner(DOGS, model=model))
    cure = f'the backbone alone .*init_cfg.checkpoint={path}'
    assert re.search(cure, str(info.value))


def test_testing_other_classes(weights):
    _, path = weights
    message = 'dogs.safetensors has 2 classes: dog, wolf; the data set has 2'
    with pytest.raises(ValueError, match=message):
        load_weights(Detector(), path, classes=CATS)


def test_testing_without_names_of_classes(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(loading, 'say', lines.append)
    path = tmp_path / 'nameless.safetensors'
    save_weights(path, Detector().state_dict())
    load_weights(Detector(), path, classes=CATS)
    assert lines[0].endswith('classes: they are taken to be cat, lynx')
