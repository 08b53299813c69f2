"""ViTs whose layers share weights, in each way there is."""

import torch

from halvit_mm.models import GroupedViT, SharedHaLViT
from tests.helpers import ARCH, build, randomise
from tests.tyings import TYINGS

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ARCH4 = dict(ARCH, num_layers=4)
KINDS = {
    'shared': (SharedHaLViT, {}),
    'shared-matrices': (SharedHaLViT, dict(share_vectors=False)),
    'shared-signed': (SharedHaLViT, dict(gain='signed')),
    'shared-learnt': (SharedHaLViT, dict(gain='learnt_signed')),
    'grouped': (GroupedViT, dict(shares=['ffn'])),
    'grouped-4': (GroupedViT, dict(group_size=4, shares=['ffn'])),
    'grouped-layers': (GroupedViT, {}),
    'grouped-matrices': (GroupedViT, dict(share_vectors=False)),
    'grouped-signed': TYINGS['groups-like-signed'],
    'grouped-like-layers': TYINGS['groups-with-biases'],
    'like-pairs': TYINGS['like-pairs'],
}


def ready(kind, **kwargs):
    cls, options = KINDS[kind]
    options = {**options, **kwargs}
    return randomise(build(cls, arch=ARCH4, **options)).eval()


def owner_of(model):
    """What the first layer borrows from."""
    return getattr(model, 'shared', None) or model.groups[0]
