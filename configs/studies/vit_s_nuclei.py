# Mask R-CNN on nuclei, from weights that exist: a ViT-S of patch 16, for which
# a nucleus of about 17 pixels is small, so images are twice as large.
_base_ = '../custom/maskrcnn_vit_s_dinov2.py'

data_root = 'data/dsb2018_coco/'
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)), rcnn=dict(sampler=dict(num=96))
    ),
    # More objects than COCO's 100 an image.
    test_cfg=dict(
        rpn=dict(nms_pre=2000, max_per_img=1000), rcnn=dict(max_per_img=500)
    ),
)

meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
in_process = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadImageFromFile', _scope_='halvit_mm', max_broken=10),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomCrop', crop_size=(128, 128)),
            dict(type='Resize', scale_factor=2.0, keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
    **in_process,
)
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='halvit_mm'),
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
val_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline), **in_process
)
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + 'annotations/instances_val.json',
    # The host's AP50 and AP75 count up to the last of these, its AP 100.
    proposal_nums=(100, 300, 500),
)
test_evaluator = val_evaluator

max_epochs = 2  # 2 x 133 steps of 4 crops
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=266, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=max_epochs))
