"""A detector as small as it can be, as a training leaves it."""

import cv2
import numpy as np
import torch

from halvit_mm.apis import load_config
from halvit_mm.apis.model_info import build_model

from .commands import ROOT
from .tools.conftest import DETECTOR

CLASSES = ['circle', 'square']
PALETTE = [[255, 0, 0], [0, 0, 255]]
#: Of the demo's detector: as small as it can be.
TINY = f"""
_base_ = '{ROOT}/{DETECTOR}'
classes = 'auto'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=48, num_layers=2, num_heads=2,
                  feedforward_channels=192),
        init_cfg=None,
    ),
    neck=dict(in_channels=48, out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16),
    ),
    test_cfg=dict(rcnn=dict(max_per_img=5)),
)
"""


def write_image(path, height=48, width=64, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3))
    assert cv2.imwrite(str(path), image.astype(np.uint8))
    return path


def make_run(folder, text=TINY):
    """Write the folder of a training: two classes, the config has three.

    Args:
        folder: The folder.
        text: The config.

    Returns:
        The folder, the config of the model and the model.
    """
    torch.manual_seed(0)
    (folder / 'tiny.py').write_text(text)
    cfg = load_config(str(folder / 'tiny.py'), read_data=False)
    for head in ('bbox_head', 'mask_head'):
        if cfg.model.roi_head.get(head):
            cfg.model.roi_head[head].num_classes = len(CLASSES)
    model = build_model(cfg).eval()
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    content = dict(meta=meta, state_dict=model.state_dict())
    torch.save(content, folder / 'epoch_1.pth')
    torch.save({}, folder / 'epoch_2.pth')
    (folder / 'last_checkpoint').write_text('/moved/epoch_1.pth')
    return folder, cfg, model


def spread(model):
    """Give a detector's boxes scores of their own: any order of ties is right.

    Without position embeddings all of the padding has one score.
    """
    generator = torch.Generator().manual_seed(0)
    model.backbone.pos_embed.data.normal_(generator=generator)
    for head in (model.rpn_head, model.roi_head.bbox_head):
        for parameter in head.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.05 * noise
    return model
