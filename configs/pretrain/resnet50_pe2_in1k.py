# ResNet50-PE2, also ResNet50*: stages 3 and 4 tied (HaLViT, Table 4).
_base_ = './resnet50_in1k.py'

model = dict(
    backbone=dict(type='halvit_mm.TiedResNet', tied_stages=(2, 3))  # from 0
)
