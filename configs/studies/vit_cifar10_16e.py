# The study's ViT, trained four times as long: what FiPS is measured on.
_base_ = './vit_cifar10.py'

max_epochs = 16
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=max_epochs),
]
