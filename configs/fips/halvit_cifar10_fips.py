# FiPS on the study's signed HaLViT.
_base_ = './vit_cifar10_fips.py'

model = dict(backbone=dict(type='halvit_mm.HaLViT', gain='signed'))
