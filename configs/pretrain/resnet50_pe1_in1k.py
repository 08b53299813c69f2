# ResNet50-PE1: all four stages tied (HaLViT, Table 9).
_base_ = './resnet50_pe2_in1k.py'

model = dict(backbone=dict(tied_stages=(0, 1, 2, 3)))
