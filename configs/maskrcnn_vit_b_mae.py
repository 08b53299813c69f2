# Mask R-CNN on a ViT-B of MAE, by ViTDet's recipe (Li et al., 2022) as far as
# the host has it: without relative positions, and with the backbone's last
# norm. 64 GPUs x 1 image there: with fewer images a step, --auto-scale-lr.
_base_ = [
    './_base_/models/maskrcnn_plain_vit.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/vitdet_100e.py',
    './_base_/default_runtime.py',
]

image_size = (1024, 1024)
model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(type='BatchFixedSizePad', size=image_size, pad_mask=True)
        ]
    ),
    backbone=dict(
        type='halvit_mm.PlainViT',
        arch='medium',
        # Windows of 14 x 14 tokens but for layers 3, 6, 9 and 12 (Sec. 3).
        window_size=14,
        window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],
        drop_path_rate=0.1,  # App. A.2, ViT-B
        init_cfg=dict(
            type='Pretrained',
            checkpoint='pretrained/vit-mae-base/model.safetensors',
            made_by='python -c "from transformers import ViTMAEModel as M; '
            "M.from_pretrained('facebook/vit-mae-base')"
            ".save_pretrained('pretrained/vit-mae-base')\"",
        ),
    ),
    neck=dict(in_channels=768),
    # Our choice: the host's heads, as of the other detectors here, where
    # ViTDet has four convolutions in the box head and two in the RPN's.
)

# Large-scale jitter, ViTDet's and the host's.
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='halvit_mm', max_broken=10),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomResize',
        scale=image_size,
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
    ),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# Evaluation at 1024 pixels, too.
test_pipeline = _base_.val_dataloader.dataset.pipeline
test_pipeline[1].update(scale=image_size)  # Resize
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
