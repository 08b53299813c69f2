# Fine-tunes HaLViT-T on iNaturalist 2019.
_base_ = './halvit_m_inat2019.py'

model = dict(
    backbone=dict(
        arch='tiny',
        init_cfg=dict(
            checkpoint='work_dirs/halvit_t_in1k/epoch_300.pth',
            made_by='tools/dist_train.sh configs/pretrain/halvit_t_in1k.py 4',
        ),
    ),
    head=dict(in_channels=384),
)
