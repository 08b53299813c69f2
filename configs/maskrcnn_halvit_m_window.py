# HaLViT-M with windows of 14 x 14 tokens and a global layer at the end of
# each quarter, as ViTDet-B: less memory and time at 800 x 1333.
_base_ = './maskrcnn_halvit_m.py'

model = dict(
    backbone=dict(
        window_size=14,
        window_block_indexes=(0, 1, 3, 4, 6, 7, 9, 10),  # 2, 5, 8, 11: global
    )
)
