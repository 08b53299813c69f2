# Fine-tunes HaLViT-M on iNaturalist 2018 (8,142 species).
_base_ = './halvit_m_flowers102.py'

model = dict(head=dict(num_classes=8142))
data_preprocessor = dict(num_classes=8142)
train_dataloader = dict(
    dataset=dict(
        type='halvit_mm.INaturalist',
        data_root='data/inat2018',
        split='train2018',
    )
)
val_dataloader = dict(
    dataset=dict(
        type='halvit_mm.INaturalist',
        data_root='data/inat2018',
        split='val2018',
    )
)
test_dataloader = val_dataloader
