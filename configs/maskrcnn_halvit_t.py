# HaLViT-T + Simple FPN + Mask R-CNN, 24 epochs on COCO (HaLViT, Sec. 4.2).
# 4 GPUs x 2 images: tools/dist_train.sh configs/maskrcnn_halvit_t.py 4
_base_ = [
    './_base_/models/maskrcnn_plain_vit.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/coco_2x_adamw.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/halvit_t_in1k/epoch_300.pth',
            made_by='tools/dist_train.sh configs/pretrain/halvit_t_in1k.py 4',
        )
    )
)
