# FiPS, Sec. 4 and App. A.2: 30 batches of 128 images, 20 epochs, 75 % of the
# factors' entries pruned gradually, compared over the whole model. The
# learning rate, lost in the paper's text, is our choice (the default).
fips = dict(
    num_batches=30,
    batch_size=128,
    epochs=20,
    sparsity=0.75,
    method='gmp',
    prune_scope='model',
)
