# The study's ViT, every tenth training image held out: choices are made on
# these 5,000, and the test set is read once, by the trained weights.
_base_ = './vit_cifar10.py'

train_dataloader = dict(dataset=dict(hold_out=10))
val_dataloader = dict(
    dataset=dict(data_prefix='train', hold_out=10, held_out=True)
)
