# HaLViT+-T: HaLViT-T with fixed signs (our own step beyond the paper).
_base_ = './halvit_t_in1k.py'

model = dict(backbone=dict(gain='signed'))
