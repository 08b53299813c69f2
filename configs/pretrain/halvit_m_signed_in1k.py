# HaLViT+-M: HaLViT-M with fixed signs (our own step beyond the paper).
_base_ = './halvit_m_in1k.py'

model = dict(backbone=dict(gain='signed'))
