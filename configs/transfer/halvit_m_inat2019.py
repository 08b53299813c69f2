# Fine-tunes HaLViT-M on iNaturalist 2019 (1,010 species).
_base_ = './halvit_m_flowers102.py'

model = dict(head=dict(num_classes=1010))
data_preprocessor = dict(num_classes=1010)
train_dataloader = dict(
    dataset=dict(
        type='halvit_mm.INaturalist',
        data_root='data/inat2019',
        split='train2019',
    )
)
val_dataloader = dict(
    dataset=dict(
        type='halvit_mm.INaturalist',
        data_root='data/inat2019',
        split='val2019',
    )
)
test_dataloader = val_dataloader
