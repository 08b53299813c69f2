# Fine-tunes HaLViT-M, pretrained on ImageNet-1K, on CIFAR-10.
# Images of 32 px are enlarged (HaLViT, Table 6).
# tools/dist_train.sh configs/transfer/halvit_m_cifar10.py 4
_base_ = '../pretrain/halvit_m_in1k.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/halvit_m_in1k/epoch_300.pth',
            made_by='tools/dist_train.sh configs/pretrain/halvit_m_in1k.py 4',
        )
    ),
    head=dict(num_classes=10),
)
data_preprocessor = dict(num_classes=10, to_rgb=False)

train_pipeline = [
    dict(type='RandomResizedCrop', scale=224, interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='ResizeEdge', scale=224, edge='short', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=192,
    dataset=dict(
        _delete_=True,
        type='CIFAR10',
        data_root='data/cifar10',
        split='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=192,
    dataset=dict(
        _delete_=True,
        type='CIFAR10',
        data_root='data/cifar10',
        split='test',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# The papers give no recipe for transfer: all of this is our choice, DeiT's
# fine-tuning in short, for 4 GPUs x 192 images = 768.
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='SGD',
        lr=1e-2,
        momentum=0.9,
        weight_decay=1e-4,
    )
)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True)]
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=768)
