# Three groups of four blocks of a HaLViT, as DeiT-B's (FiPS, Sec. 4).
_base_ = './paper.py'

fips = dict(
    groups=[
        r'layers\.[0-3]\.ffn',
        r'layers\.[4-7]\.ffn',
        r'layers\.(8|9|10|11)\.ffn',
    ]
)
