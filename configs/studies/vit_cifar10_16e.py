# The study's ViT, trained four times as long: what FiPS is measured on.
_base_ = './vit_cifar10.py'

max_epochs = 16
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        begin=1,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
