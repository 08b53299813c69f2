# mmdet's COCO, with checks before the first step and of every image.
_base_ = 'mmdet::_base_/datasets/coco_instance.py'

train_pipeline = [
    # A broken image is skipped with its path, at most max_broken a worker.
    dict(type='LoadImageFromFile', _scope_='halvit_mm', max_broken=10),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    # With the scope apart `DetInferencer` uses ours, too.
    dict(type='LoadImageFromFile', _scope_='halvit_mm'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
    ),
]
train_dataloader = dict(
    dataset=dict(type='halvit_mm.CocoDataset', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(type='halvit_mm.CocoDataset', pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(type='halvit_mm.CocoMetric')
test_evaluator = val_evaluator
