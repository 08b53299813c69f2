# ViTDet's recipe for a ViT-B (Li et al., 2022, App. A.2), on COCO: 100 epochs
# of 64 images a step, layer-wise decay 0.7, large-scale jitter to 1024 pixels.
# 118,287 images / 64 x 100 = 184,375 steps; steps at 88.9 and 96.3 %.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

max_epochs = 100
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[89, 96],
        gamma=0.1,
    ),
]
optim_wrapper = dict(
    type='halvit_mm.BFloat16OptimWrapper',  # fp16 there
    constructor='halvit_mm.LayerDecayOptimWrapperConstructor',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.1),
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        custom_keys={'pos_embed': dict(decay_mult=0.0)},
    ),
)

auto_scale_lr = dict(base_batch_size=64)
