"""ViTs whose layers share weights, in each way there is."""

import torch

from halvit_mm.models import GroupedMLPViT, SharedHaLViT
from tests.helpers import ARCH, build, randomise

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ARCH4 = dict(ARCH, num_layers=4)
KINDS = {
    'shared': (SharedHaLViT, {}),
    'shared-matrices': (SharedHaLViT, dict(share_vectors=False)),
    'shared-signed': (SharedHaLViT, dict(gain='signed')),
    'shared-learnt': (SharedHaLViT, dict(gain='learnt_signed')),
    'grouped': (GroupedMLPViT, {}),
    'grouped-4': (GroupedMLPViT, dict(group_size=4)),
}


def ready(kind, **kwargs):
    cls, options = KINDS[kind]
    return randomise(build(cls, arch=ARCH4, **options, **kwargs)).eval()


def owner_of(model):
    """What the first layer borrows from."""
    return getattr(model, 'shared', None) or model.groups[0]
