# ViT-B/16 with FFNs of half the hidden width (ShallowMLP). Its authors give
# no recipe: DeiT's, as for the baseline, is our choice.
_base_ = './vit_b_in1k.py'

model = dict(backbone=dict(arch='shallowmlp-base'))
