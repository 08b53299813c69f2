# HaLViT-M + Simple FPN + Mask R-CNN, 24 epochs on COCO (HaLViT, Sec. 4.2).
# 4 GPUs x 2 images: tools/dist_train.sh configs/maskrcnn_halvit_m.py 4
_base_ = './maskrcnn_halvit_t.py'

model = dict(
    backbone=dict(
        arch='medium',
        init_cfg=dict(
            checkpoint='work_dirs/halvit_m_in1k/epoch_300.pth',
            made_by='tools/dist_train.sh configs/pretrain/halvit_m_in1k.py 4',
        ),
    ),
    neck=dict(in_channels=768),
)
