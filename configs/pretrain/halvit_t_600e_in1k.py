# HaLViT-T for 600 epochs (HaLViT, Table 3, the second row of HaLViT-T).
_base_ = './halvit_t_in1k.py'

train_cfg = dict(max_epochs=600)
