# FiPS on DeiT-B.
# python tools/compress.py configs/fips/deit_b_fips.py CHECKPOINT \
#     --budget 0.4 --out work_dirs/fips/deit_b
_base_ = [
    'mmpretrain::deit/deit-base_16xb64_in1k.py',
    '../_base_/fips/twelve_layers.py',
]

custom_imports = dict(imports=['halvit_mm'], allow_failed_imports=False)
