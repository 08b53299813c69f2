# The same with crops for evaluation, too, all of one size: what a halving
# calibrates on.
_base_ = './vit_s_nuclei.py'

crops = [
    dict(type='LoadImageFromFile', _scope_='halvit_mm'),
    dict(type='CenterCrop', crop_size=(128, 128)),
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys),
]
val_dataloader = dict(dataset=dict(pipeline=crops))
test_dataloader = dict(dataset=dict(pipeline=crops))
