# Mask R-CNN on ViT-B with FFNs of half the hidden width.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(
        arch='shallowmlp-base',
        init_cfg=dict(
            checkpoint='work_dirs/vit_b_shallowmlp_in1k/epoch_300.pth',
            made_by=(
                'tools/dist_train.sh '
                'configs/pretrain/vit_b_shallowmlp_in1k.py 4'
            ),
        ),
    )
)
