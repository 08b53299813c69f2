# A few hundred images of one's own: Mask R-CNN on DINOv2's ViT-S.
# docs/pretrained.md tells how to start, and what was measured.
#
#   data/mine/annotations/instances_train.json  instances_val.json
#   data/mine/train/*.jpg  val/*.jpg
_base_ = [
    '../_base_/models/maskrcnn_plain_vit.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_2x_adamw.py',
    '../_base_/default_runtime.py',
]

data_root = 'data/mine/'
classes = 'auto'  # from the training annotations, num_classes with them

model = dict(
    backbone=dict(
        type='halvit_mm.PlainViT',
        arch='tiny',
        img_size=592,  # 37 x 37 position embeddings, as in the file
        with_cls_token=True,  # patches attend to it
        drop_path_rate=0.0,
        # It is trained, gently; to leave it as it is, in 0.6 of the time:
        # --cfg-options model.backbone.frozen_stages=12
        init_cfg=dict(
            type='Pretrained',
            checkpoint='pretrained/dinov2-small/model.safetensors',
            made_by='python -c "from transformers import Dinov2Model as M; '
            "M.from_pretrained('facebook/dinov2-small')"
            ".save_pretrained('pretrained/dinov2-small')\"",
        ),
    ),
    # Half as wide as for COCO, with fewer proposals and samples: a third of
    # the time, which small machines need and small data do not miss.
    neck=dict(out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(num_convs=2, in_channels=128, conv_out_channels=128),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=300),
        rcnn=dict(sampler=dict(num=128)),
    ),
)

# Short sides of 320 to 480 pixels.
scales = [(853, 320), (853, 400), (853, 480)]
train_pipeline = _base_.train_dataloader.dataset.pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=scales, keep_ratio=True
)
test_pipeline = _base_.val_dataloader.dataset.pipeline
test_pipeline[1].update(scale=(853, 480))  # Resize
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=False),  # the ground alone teaches too
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

max_epochs = 12
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
# For the new layers. A backbone of DINOv2 loses what it knows at that rate
# within ten steps, see docs/pretrained.md: its features are small numbers,
# and AdamW's steps are as large as the rate.
optim_wrapper = dict(
    constructor='halvit_mm.LayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(layer_decay_rate=0.7, backbone_lr_mult=0.1),
)
auto_scale_lr = dict(base_batch_size=2)
