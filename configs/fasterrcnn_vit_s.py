# Untied baseline of HaLViT-T, boxes only: the same but for the tying.
_base_ = './fasterrcnn_halvit_t.py'

model = dict(
    backbone=dict(
        type='halvit_mm.PlainViT',
        init_cfg=dict(
            checkpoint='work_dirs/vit_s_in1k/epoch_300.pth',
            made_by='tools/dist_train.sh configs/pretrain/vit_s_in1k.py 4',
        ),
    )
)
