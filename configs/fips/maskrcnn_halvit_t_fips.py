# Mask R-CNN on a HaLViT-T that FiPS has compressed; its sparse factors are
# trained further, by RigL. The compressed file comes first:
# python tools/compress.py configs/fips/halvit_t_fips.py \
#     work_dirs/halvit_t_in1k/epoch_300.pth --out work_dirs/fips/halvit_t
# tools/dist_train.sh configs/fips/maskrcnn_halvit_t_fips.py 4
_base_ = '../maskrcnn_halvit_t.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='halvit_mm.CompressedBackbone',
        backbone=dict(
            type='halvit_mm.HaLViT',
            arch='tiny',
            img_size=224,
            patch_size=16,
            out_type='featmap',
            with_cls_token=False,
            drop_path_rate=0.1,
        ),
        checkpoint='work_dirs/fips/halvit_t/compressed.safetensors',
        made_by=(
            'python tools/compress.py configs/fips/halvit_t_fips.py '
            'work_dirs/halvit_t_in1k/epoch_300.pth '
            '--out work_dirs/fips/halvit_t'
        ),
    )
)
custom_hooks = [dict(type='halvit_mm.RigLHook')]
