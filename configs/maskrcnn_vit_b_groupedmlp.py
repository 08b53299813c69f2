# Mask R-CNN on ViT-B whose layers share FFNs in pairs.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(
        type='halvit_mm.GroupedViT',
        group_size=2,
        shares=['ffn'],
        init_cfg=dict(
            checkpoint='work_dirs/vit_b_groupedmlp_in1k/epoch_300.pth',
            made_by=(
                'tools/dist_train.sh '
                'configs/pretrain/vit_b_groupedmlp_in1k.py 4'
            ),
        ),
    )
)
