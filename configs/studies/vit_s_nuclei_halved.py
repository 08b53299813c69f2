# The detector of vit_s_nuclei.py with its backbone halved; nuclei_halved.yaml
# has the commands that make the file.
_base_ = './vit_s_nuclei.py'

load_from = 'work_dirs/vit_s_nuclei/halved/compressed.safetensors'
model = dict(
    backbone=dict(
        _delete_=True,
        type='halvit_mm.CompressedBackbone',
        backbone=dict(
            type='halvit_mm.PlainViT',
            arch='tiny',
            img_size=592,
            patch_size=16,
            out_type='featmap',
            with_cls_token=True,
            drop_path_rate=0.0,
        ),
        checkpoint=load_from,
    )
)
