# FiPS on HaLViT-T, beyond the papers: one tied matrix per FFN, whose two uses
# are served by one factor. Groups as DeiT-B's.
# python tools/compress.py configs/fips/halvit_t_fips.py \
#     work_dirs/halvit_t_in1k/epoch_300.pth --budget 0.4 \
#     --out work_dirs/fips/halvit_t
_base_ = '../pretrain/halvit_t_in1k.py'

fips = dict(
    groups=[
        r'layers\.[0-3]\.ffn',
        r'layers\.[4-7]\.ffn',
        r'layers\.(8|9|10|11)\.ffn',
    ],
    num_batches=30,
    batch_size=128,
    epochs=20,
    sparsity=0.75,
    method='gmp',
    prune_scope='model',
)
