# The same from DINOv2 (Oquab et al., 2023), whose patches of 14 pixels are
# resampled to 16: the pyramid's strides are powers of two. That MAE's recipe
# serves it as well is our choice.
_base_ = './maskrcnn_vit_b_mae.py'

model = dict(
    backbone=dict(
        img_size=592,  # 37 x 37 position embeddings, as in the file
        init_cfg=dict(
            checkpoint='pretrained/dinov2-base/model.safetensors',
            made_by='python -c "from transformers import Dinov2Model as M; '
            "M.from_pretrained('facebook/dinov2-base')"
            ".save_pretrained('pretrained/dinov2-base')\"",
        ),
    )
)
