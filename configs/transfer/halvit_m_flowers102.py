# Fine-tunes HaLViT-M on Flowers-102 (HaLViT, Table 7): JPEG files of any size.
_base_ = './halvit_m_cifar10.py'

model = dict(head=dict(num_classes=102))
data_preprocessor = dict(num_classes=102, to_rgb=True)

train_pipeline = [dict(type='LoadImageFromFile'), *_base_.train_pipeline]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', interpolation='bicubic'),
    *_base_.test_pipeline[1:],
]
train_dataloader = dict(
    dataset=dict(
        type='Flowers102',
        data_root='data/flowers102',
        split='trainval',
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='Flowers102',
        data_root='data/flowers102',
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
