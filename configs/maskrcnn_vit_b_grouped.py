# Mask R-CNN on ViT-B whose layers share their matrices in pairs.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(
        type='halvit_mm.GroupedViT',
        group_size=2,
        share_vectors=False,
        init_cfg=dict(
            checkpoint='work_dirs/vit_b_grouped_in1k/epoch_300.pth',
            made_by=(
                'tools/dist_train.sh configs/pretrain/vit_b_grouped_in1k.py 4'
            ),
        ),
    )
)
