# FiPS on the study's ViT, one group of its four FFNs.
# python tools/compress.py configs/fips/vit_cifar10_fips.py CHECKPOINT \
#     --budget 0.4 --out work_dirs/fips/vit_cifar10
_base_ = '../studies/vit_cifar10.py'

fips = dict(
    groups=[r'layers\.[0-3]\.ffn'],
    # the paper's: 30 batches of 128, 20 epochs
    num_batches=30,
    batch_size=128,
    epochs=20,
    # of 3e-4, 1e-3, 3e-3 and 1e-2 the best by error and accuracy together
    lr=3e-3,
)
