# The study's ViT for a GPU: twice as wide, 8 layers, 100 epochs. The images
# stay decoded in memory; eight workers crop and flip them.
_base_ = './vit_cifar10.py'

model = dict(
    backbone=dict(
        arch=dict(
            embed_dims=192,
            num_layers=8,
            num_heads=3,
            feedforward_channels=768,
        ),
        drop_path_rate=0.1,
        # 16-bit attention is slow on CPUs only
        layer_cfgs=dict(upcast_attention=False),
    ),
    head=dict(in_channels=192),
)

train_dataloader = dict(num_workers=8)
max_epochs = 100
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        end=5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        begin=5,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
