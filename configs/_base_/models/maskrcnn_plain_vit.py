# Mask R-CNN as mmdet defines it; the backbone is a plain ViT, the neck the
# simple feature pyramid of ViTDet (HaLViT, Sec. 4.2).
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# Supplies mmcv's operators where they are not compiled, and our scope.
custom_imports = dict(
    imports=['halvit_mm', 'halvit_mm.models.heads'], allow_failed_imports=False
)

model = dict(
    # The divisor stays 32: the pyramid's level of stride 32 needs it.
    backbone=dict(
        _delete_=True,
        type='halvit_mm.HaLViT',
        arch='tiny',
        img_size=224,  # of pretraining; interpolated to the image's grid
        patch_size=16,
        out_type='featmap',
        with_cls_token=False,
        # The paper is silent on these for COCO, so they are our choice: drop
        # path, global attention in every layer (no window_size), and, in the
        # schedule, no layer-wise decay.
        drop_path_rate=0.1,
    ),
    # The paper starts the new layers with Xavier. Our choice: the neck does,
    # the heads keep mmdet's own start, but for the masks' last layer.
    neck=dict(
        _delete_=True,
        type='halvit_mm.SimpleFPN',
        in_channels=384,
        out_channels=256,
        patch_size=16,
        num_outs=5,
    ),
    roi_head=dict(mask_head=dict(type='halvit_mm.FCNMaskHead')),
)
