# Mask R-CNN on ResNet50-PE2: mmdet's R50-FPN recipe, the backbone tied in its
# stages 3 and 4. The papers have no such detector: the recipe is our choice.
# 8 GPUs x 2 images: tools/dist_train.sh configs/maskrcnn_resnet50_pe.py 8
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    './_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    './_base_/default_runtime.py',
]

custom_imports = dict(imports=['halvit_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='halvit_mm.TiedResNet',
        tied_stages=(2, 3),  # from 0
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,  # as the base has it
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/resnet50_pe2_in1k/epoch_90.pth',
            made_by=(
                'tools/dist_train.sh configs/pretrain/resnet50_pe2_in1k.py 8'
            ),
        ),
    )
)
