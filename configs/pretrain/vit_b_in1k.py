# Untied baseline of HaLViT-M, the same recipe.
_base_ = './halvit_m_in1k.py'

model = dict(backbone=dict(type='halvit_mm.PlainViT'))
