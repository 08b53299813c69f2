# FiPS on FFNs and attention of the study's signed HaLViT, all tied.
_base_ = './halvit_cifar10_fips.py'

fips = dict(
    groups=[r'layers\.[0-3]\.(attn|ffn)'],
    square={r'.*\.attn\.(q|kv)': 'in'},
)
