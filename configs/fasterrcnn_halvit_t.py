# Boxes only: HaLViT-T + Simple FPN + Faster R-CNN, which needs no masks in the
# annotations. The papers have no such detector: the recipe is Mask R-CNN's.
# 4 GPUs x 2 images: tools/dist_train.sh configs/fasterrcnn_halvit_t.py 4
_base_ = './maskrcnn_halvit_t.py'

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
    # as mmdet's Faster R-CNN, unlike its Mask R-CNN
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))),
)

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(with_mask=False)  # LoadAnnotations
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(with_mask=False)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
