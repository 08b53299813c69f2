# HaLViT-M*: all layers share everything but the query matrix and its bias
# (HaLViT, Table 3).
_base_ = './halvit_m_in1k.py'

model = dict(backbone=dict(type='halvit_mm.SharedHaLViT'))
