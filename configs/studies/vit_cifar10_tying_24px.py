# The same on crops of 24 x 24 pixels, 16 tokens: cheap enough for two cores to
# train for long.
_base_ = './vit_cifar10_tying.py'

model = dict(backbone=dict(img_size=24, patch_size=6))

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomCrop', crop_size=24),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]
    )
)
centre = [dict(type='CenterCrop', crop_size=24), dict(type='PackInputs')]
val_dataloader = dict(dataset=dict(pipeline=centre))
test_dataloader = dict(dataset=dict(pipeline=centre))
