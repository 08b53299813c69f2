"""Mask R-CNN on every kind of backbone: a step and a prediction."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from halvit_mm.apis import load_config
from halvit_mm.apis.fake_data import fake_batch
from halvit_mm.apis.model_info import build_model

from ..commands import ROOT
from ..helpers import assert_one_owner, gradients

SIZE = (64, 96)  # pixels
WIDTH = 32  # of the pyramid and the heads
ARCH = dict(
    _delete_=True,  # the configs' are names
    embed_dims=48,
    num_layers=4,
    num_heads=4,
    feedforward_channels=192,
)
VIT = {
    'backbone.arch': ARCH,
    'backbone.drop_path_rate': 0.0,  # which may skip a layer altogether
    'neck.in_channels': 48,
}
SHALLOW = {'backbone.arch': dict(ARCH, feedforward_channels=96)}
RESNET = {
    'backbone.stem_channels': 8,
    'backbone.base_channels': 8,
    'neck.in_channels': [32, 64, 128, 256],
}
#: Config -> options that shrink its backbone.
BACKBONES = dict(
    halvit_t=VIT,
    halvit_t_signed=VIT,
    halvit_m_shared=VIT,
    halvit_m_window=VIT
    | {'backbone.window_size': 2, 'backbone.window_block_indexes': [0, 2]},
    vit_s=VIT,
    vit_b_grouped=VIT,
    vit_b_groupedmlp=VIT,
    vit_b_shallowmlp=VIT | SHALLOW,
    resnet50_pe=RESNET,
)
HEADS = {
    'backbone.init_cfg': None,
    'neck.out_channels': WIDTH,
    'rpn_head.in_channels': WIDTH,
    'rpn_head.feat_channels': WIDTH,
    'roi_head.bbox_roi_extractor.out_channels': WIDTH,
    'roi_head.bbox_head.in_channels': WIDTH,
    'roi_head.bbox_head.fc_out_channels': WIDTH,
    'roi_head.mask_roi_extractor.out_channels': WIDTH,
    'roi_head.mask_head.in_channels': WIDTH,
    'roi_head.mask_head.conv_out_channels': WIDTH,
    'train_cfg.rcnn.sampler.num': 64,
    # What knows nothing yet is sure of nothing: 81 classes.
    'test_cfg.rcnn.score_thr': 0.0,
    'test_cfg.rcnn.max_per_img': 5,
}


def small_config(name):
    """The real config, narrower."""
    options = {f'model.{k}': v for k, v in (HEADS | BACKBONES[name]).items()}
    return load_config(str(ROOT / f'configs/maskrcnn_{name}.py'), options)


def start(model):
    """As a training does, but no vector is zero: it could stop gradients."""
    model.init_weights()
    for param in model.parameters():
        if param.dim() == 1 and param.requires_grad and not param.any():
            torch.nn.init.normal_(param, std=0.1)
    return model


@pytest.mark.parametrize('name', BACKBONES)
def test_a_step_and_a_prediction(name):
    cfg = small_config(name)
    model = start(build_model(cfg)).train()
    assert_one_owner(model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = fake_batch(cfg, SIZE)

    data = model.data_preprocessor(batch, True)
    loss, logs = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(loss)
    parts = {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'}
    assert parts | {'loss_mask'} < logs.keys()
    wrapper.backward(loss)
    found = gradients(model)
    assert all(grad is not None for grad in found.values())
    assert all(grad.isfinite().all() for grad in found.values())
    # A key's bias shifts all scores of a query alike.
    still = {k for k, grad in found.items() if not grad.any()}
    assert still <= {k for k in found if k.endswith('attn.kv.bias')}
    wrapper.step()

    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(batch, False)
        results = model(**data, mode='predict')
    assert len(results) == 2
    for result in results:
        found = result.pred_instances
        assert 0 < len(found) <= 5
        assert found.masks.shape == (len(found), *SIZE)
        assert found.bboxes.isfinite().all() and found.scores.isfinite().all()
        assert found.labels.max() < 80


def test_what_a_resnet_freezes_stays():
    cfg = small_config('resnet50_pe')
    model = start(build_model(cfg)).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    backbone = model.backbone
    frozen = {
        k: v.clone()
        for k, v in backbone.state_dict().items()
        if k.startswith(('conv1', 'bn1', 'layer1.')) or 'running' in k
    }
    moving = backbone.layer3.weight.clone()
    model.train_step(fake_batch(cfg, SIZE), wrapper)
    state = backbone.state_dict()
    assert all(torch.equal(state[k], v) for k, v in frozen.items())
    assert not torch.equal(backbone.layer3.weight, moving)
