# The same, validated on crops of one size: what a halving calibrates on. The
# test images stay whole, which is what the halved file says of its images.
_base_ = './vit_s_nuclei.py'

crops = [
    dict(type='LoadImageFromFile', _scope_='halvit_mm'),
    dict(type='CenterCrop', crop_size=(128, 128)),
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys),
]
val_dataloader = dict(dataset=dict(pipeline=crops))
