# ViT-B/16 in which every two layers share the matrices of attention and FFN,
# with norms and biases of their own: what HaLViT-M stores, another way.
_base_ = './vit_b_in1k.py'

model = dict(
    backbone=dict(
        type='halvit_mm.GroupedViT', group_size=2, share_vectors=False
    )
)
