# ResNet50 as HaLViT's Sec. 4.1 trains it, the baseline of ResNet50-PE.
# 8 GPUs x 32 images = 256:
# tools/dist_train.sh configs/pretrain/resnet50_in1k.py 8
_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'

custom_imports = dict(imports=['halvit_mm'], allow_failed_imports=False)

# SGD, lr 0.1, weight decay 1e-4 are the paper's and the base's; momentum 0.9
# and 256 images a step are torchvision's, which the paper cites.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,  # our choice
        by_epoch=True,
        end=5,  # the paper
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5),  # the paper
]
train_cfg = dict(max_epochs=90)  # torchvision

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=248, edge='short'),  # the paper
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    checkpoint=dict(type='halvit_mm.CheckpointHook', max_keep_ckpts=3)
)
# how stable a run is: peak, final and their difference
custom_hooks = [dict(type='halvit_mm.PeakToFinalHook')]
