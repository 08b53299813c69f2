# Fine-tunes HaLViT-M on Oxford-IIIT Pets.
_base_ = './halvit_m_flowers102.py'

model = dict(head=dict(num_classes=37))
data_preprocessor = dict(num_classes=37)
train_dataloader = dict(
    dataset=dict(
        type='OxfordIIITPet', data_root='data/oxford_pets', split='trainval'
    )
)
val_dataloader = dict(
    dataset=dict(
        type='OxfordIIITPet', data_root='data/oxford_pets', split='test'
    )
)
test_dataloader = val_dataloader
