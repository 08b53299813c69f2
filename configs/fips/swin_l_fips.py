# FiPS on Swin-L: a stage of 2 blocks is a group, the one of 18 is three
# (FiPS, Sec. 4).
# python tools/compress.py configs/fips/swin_l_fips.py CHECKPOINT \
#     --budget 0.4 --out work_dirs/fips/swin_l
_base_ = [
    'mmpretrain::swin_transformer/swin-large_16xb64_in1k.py',
    '../_base_/fips/paper.py',
]

custom_imports = dict(imports=['halvit_mm'], allow_failed_imports=False)

# The host's FFN adds its residual itself: the layers inside are the unit.
fips = dict(
    groups=[
        r'stages\.0\.blocks\.\d+\.ffn\.layers',
        r'stages\.1\.blocks\.\d+\.ffn\.layers',
        r'stages\.2\.blocks\.[0-5]\.ffn\.layers',
        r'stages\.2\.blocks\.([6-9]|10|11)\.ffn\.layers',
        r'stages\.2\.blocks\.1[2-7]\.ffn\.layers',
        r'stages\.3\.blocks\.\d+\.ffn\.layers',
    ]
)
