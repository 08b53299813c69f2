# HaLViT-T on ImageNet-1K, 300 epochs (HaLViT, Table 2), as the difference to
# mmpretrain's DeiT-S. 4 GPUs x 256 images = 1024:
# tools/dist_train.sh configs/pretrain/halvit_t_in1k.py 4
_base_ = 'mmpretrain::deit/deit-small_4xb256_in1k.py'

custom_imports = dict(imports=['halvit_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='halvit_mm.HaLViT',
        arch='tiny',
        drop_path_rate=0.1,  # Table 2; DeiT-S has none there
    )
)

train_dataloader = dict(
    sampler=dict(type='RepeatAugSampler')  # Table 2, repeated augmentation
)

# lr = 5e-4 x 1024 / 512 (Sec. 4.1) and its schedule are the base's, but for
# 5 warm-up epochs instead of 20 and no clipping (Table 2). Its start_factor
# and eta_min stay, the paper gives none.
optim_wrapper = dict(clip_grad=None)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5),
]
default_hooks = dict(
    checkpoint=dict(type='halvit_mm.CheckpointHook', max_keep_ckpts=3)
)
# how stable a run is: peak, final and their difference
custom_hooks = [dict(type='halvit_mm.PeakToFinalHook')]
