# FiPS on DeiT-B: three groups of four blocks (FiPS, Sec. 4).
# python tools/compress.py configs/fips/deit_b_fips.py CHECKPOINT \
#     --budget 0.4 --out work_dirs/fips/deit_b
_base_ = 'mmpretrain::deit/deit-base_16xb64_in1k.py'

custom_imports = dict(imports=['halvit_mm'], allow_failed_imports=False)

fips = dict(
    groups=[
        r'layers\.[0-3]\.ffn',
        r'layers\.[4-7]\.ffn',
        r'layers\.(8|9|10|11)\.ffn',
    ],
    # The paper's: 30 batches of 128, 20 epochs, 75 % sparsity, GMP, pruning
    # over the whole model. It does not say how it chose a learning rate.
    num_batches=30,
    batch_size=128,
    epochs=20,
    sparsity=0.75,
    method='gmp',
    prune_scope='model',
)
