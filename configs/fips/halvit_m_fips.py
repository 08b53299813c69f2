# FiPS on HaLViT-M, as on HaLViT-T.
_base_ = './halvit_t_fips.py'

model = dict(backbone=dict(arch='medium'), head=dict(in_channels=768))
