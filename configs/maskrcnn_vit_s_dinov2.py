# The same on a ViT-S. Our choice: the recipe of ViT-B, for ViTDet has no
# smaller one.
_base_ = './maskrcnn_vit_b_dinov2.py'

model = dict(
    backbone=dict(
        arch='tiny',
        init_cfg=dict(
            checkpoint='pretrained/dinov2-small/model.safetensors',
            made_by='python -c "from transformers import Dinov2Model as M; '
            "M.from_pretrained('facebook/dinov2-small')"
            ".save_pretrained('pretrained/dinov2-small')\"",
        ),
    ),
    neck=dict(in_channels=384),
)
