# Mask R-CNN on HaLViT+-T, version 2.
_base_ = './maskrcnn_halvit_t.py'

model = dict(
    backbone=dict(
        gain='signed',
        attn='like',
        init_cfg=dict(
            checkpoint='work_dirs/halvit_t_signed_in1k/epoch_300.pth',
            made_by=(
                'tools/dist_train.sh '
                'configs/pretrain/halvit_t_signed_in1k.py 4'
            ),
        ),
    )
)
