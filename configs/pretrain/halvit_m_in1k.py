# HaLViT-M on ImageNet-1K, 300 epochs (HaLViT, Table 2), 4 GPUs x 256 images.
_base_ = './halvit_t_in1k.py'

model = dict(backbone=dict(arch='medium'), head=dict(in_channels=768))
