# FiPS on FFNs and attention of the study's ViT.
_base_ = './vit_cifar10_fips.py'

fips = dict(
    groups=[r'layers\.[0-3]\.(attn|ffn)'],
    square={r'.*\.proj': 'out'},
)
