# ViT-B/16 in which every two layers share one FFN (GroupedMLP). Its authors
# give no recipe: DeiT's, as for the baseline, is our choice.
_base_ = './vit_b_in1k.py'

model = dict(
    backbone=dict(type='halvit_mm.GroupedViT', group_size=2, shares=['ffn'])
)
