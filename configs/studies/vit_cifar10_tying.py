# The study's ViT, every tenth training image held out: choices are made on
# these 5,000, and the test set is read once, by the trained weights.
_base_ = './vit_cifar10.py'

# In memory: a worker would hand over every image by a file of its own, which
# takes longer than to cut it.
in_process = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(hold_out=10), **in_process)
val_dataloader = dict(
    dataset=dict(data_prefix='train', hold_out=10, held_out=True), **in_process
)
test_dataloader = in_process
# At this size bfloat16 is the slower one on a CPU.
optim_wrapper = dict(type='OptimWrapper')
