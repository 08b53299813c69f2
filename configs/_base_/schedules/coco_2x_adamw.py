# mmdet's 2x: 24 epochs, steps at 16 and 22 (HaLViT, Sec. 4.2). That its 500
# steps of warm-up stay is our choice: the paper gives none for COCO.
_base_ = 'mmdet::_base_/schedules/schedule_2x.py'

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='AdamW',
        lr=0.5e-4,  # Sec. 4.2, for 8 images a step
        weight_decay=0.05,  # our choice: the paper gives none for COCO
    ),
    # Our choice, too. One learning rate for all, no layer-wise decay.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)

auto_scale_lr = dict(base_batch_size=8)  # 4 GPUs x 2 images
