# Untied baseline of HaLViT-T, the same recipe.
_base_ = './halvit_t_in1k.py'

model = dict(backbone=dict(type='halvit_mm.PlainViT'))
