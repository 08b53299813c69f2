# A data set of one's own in COCO's format: nuclei of the 2018 Data Science
# Bowl, one class, tiny objects, up to 375 an image. docs/custom_data.md tells
# how it came about. The model is the demo's, small enough for two CPU cores.
_base_ = '../demo/maskrcnn_halvit_shapes.py'

data_root = 'data/dsb2018_coco/'
classes = 'auto'  # from the training annotations, num_classes with them

model = dict(
    # Anchors of 16 to 256 pixels: half the host's, objects are about 17.
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=1000, max_per_img=300),
        rcnn=dict(sampler=dict(num=96)),
    ),
    # More objects than COCO's 100 an image.
    test_cfg=dict(
        rpn=dict(nms_pre=2000, max_per_img=1000),
        rcnn=dict(max_per_img=500),
    ),
)

meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        pipeline=[
            dict(type='LoadImageFromFile', _scope_='halvit_mm', max_broken=10),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            # A crop without objects is passed over: nuclei are everywhere.
            dict(type='RandomCrop', crop_size=(128, 128)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        pipeline=[
            # With the scope apart `DetInferencer` uses ours, too.
            dict(type='LoadImageFromFile', _scope_='halvit_mm'),
            dict(type='Resize', scale_factor=1.0, keep_ratio=True),
            dict(type='PackDetInputs', meta_keys=meta_keys),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + 'annotations/instances_val.json',
    # The host's AP50 and AP75 count up to the last of these, its AP 100.
    proposal_nums=(100, 300, 500),
)
test_evaluator = val_evaluator

max_epochs = 6  # 6 x 67 steps of 8 crops, to which the schedule is fitted
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
