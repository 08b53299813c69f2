# Fine-tunes HaLViT-M on CIFAR-100 (HaLViT, Table 6).
_base_ = './halvit_m_cifar10.py'

model = dict(head=dict(num_classes=100))
data_preprocessor = dict(num_classes=100)
train_dataloader = dict(
    dataset=dict(type='CIFAR100', data_root='data/cifar100', split='train')
)
val_dataloader = dict(
    dataset=dict(type='CIFAR100', data_root='data/cifar100', split='test')
)
test_dataloader = val_dataloader
