# FiPS on DeiT-B, three groups of four blocks (FiPS, Sec. 4).
# python tools/compress.py configs/fips/deit_b_fips.py CHECKPOINT \
#     --budget 0.4 --out work_dirs/fips/deit_b
_base_ = [
    'mmpretrain::deit/deit-base_16xb64_in1k.py',
    '../_base_/fips/paper.py',
]

custom_imports = dict(imports=['halvit_mm'], allow_failed_imports=False)

# The host's FFN adds its residual itself: the layers inside are the unit.
fips = dict(
    groups=[
        r'layers\.[0-3]\.ffn\.layers',
        r'layers\.[4-7]\.ffn\.layers',
        r'layers\.(8|9|10|11)\.ffn\.layers',
    ]
)
