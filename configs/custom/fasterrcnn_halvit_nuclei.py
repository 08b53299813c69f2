# Boxes only, for annotations without masks: Faster R-CNN on the same data.
_base_ = './maskrcnn_halvit_nuclei.py'

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))),
)

train_pipeline = _base_.train_dataloader.dataset.pipeline
train_pipeline[1].update(with_mask=False)  # LoadAnnotations
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
