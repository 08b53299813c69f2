# Fine-tunes HaLViT-M on Stanford Cars.
_base_ = './halvit_m_flowers102.py'

model = dict(head=dict(num_classes=196))
data_preprocessor = dict(num_classes=196)
train_dataloader = dict(
    dataset=dict(
        type='StanfordCars', data_root='data/stanford_cars', split='train'
    )
)
val_dataloader = dict(
    dataset=dict(
        type='StanfordCars', data_root='data/stanford_cars', split='test'
    )
)
test_dataloader = val_dataloader
