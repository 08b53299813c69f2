"""A seed gives the weights that it always gave.

``seeded_state.json`` was written by this file, run as a script, before layers
shared their modules by reference. Results that were kept depend on it.
"""

import json
from pathlib import Path

import pytest
import torch

from halvit_mm.models import HaLViT, PlainViT
from halvit_mm.models.backbones import (
    GroupedViT,
    SharedHaLViT,
    TiedResNet,
)
from tests.helpers import ARCH, DETECTION, build

RECORD = Path(__file__).with_name('seeded_state.json')
ARCH4 = dict(ARCH, num_layers=4)
CASES = {
    'plain': (PlainViT, {}),
    'plain-detection': (PlainViT, DETECTION),
    'halvit': (HaLViT, {}),
    'halvit-signed': (HaLViT, dict(gain='signed')),
    'halvit-learnt': (HaLViT, dict(gain='learnt')),
    'halvit-learnt-signed': (HaLViT, dict(gain='learnt_signed')),
    'halvit-out-gain': (HaLViT, dict(out_gain='learnt')),
    'halvit-shift': (HaLViT, dict(hidden_shift=3, gain='signed')),
    'halvit-scaled': (HaLViT, dict(layer_cfgs=dict(ffn_init_scale=0.5))),
    'shared': (SharedHaLViT, dict(arch=ARCH4)),
    'shared-matrices': (SharedHaLViT, dict(arch=ARCH4, share_vectors=False)),
    'shared-learnt': (SharedHaLViT, dict(arch=ARCH4, gain='learnt_signed')),
    'grouped': (GroupedViT, dict(arch=ARCH4, shares=['ffn'])),
    'grouped-4': (
        GroupedViT,
        dict(arch=ARCH4, group_size=4, shares=['ffn']),
    ),
    'resnet': (TiedResNet, dict(tied_stages=(0, 1, 2, 3))),
}


def summary(tensor):
    """Shape, sum, norm, and the first and last value."""
    flat = tensor.detach().double().flatten()
    numbers = (flat.sum(), flat.norm(), flat[0], flat[-1])
    return [list(tensor.shape), *(float(f'{x.item():.7g}') for x in numbers)]


def seeded(name):
    """Names, in order, and summaries of the parameters of a fresh backbone."""
    cls, kwargs = CASES[name]
    torch.manual_seed(0)
    model = cls(**kwargs) if cls is TiedResNet else build(cls, **kwargs)
    model.init_weights()
    return [[n, *summary(p)] for n, p in model.named_parameters()]


@pytest.mark.parametrize('name', CASES)
def test_equals_the_record(name):
    expected = json.loads(RECORD.read_text())[name]
    actual = seeded(name)
    assert [row[:2] for row in actual] == [row[:2] for row in expected]
    for row, known in zip(actual, expected):
        assert row[2:] == pytest.approx(known[2:], rel=1e-4, abs=1e-5), row


if __name__ == '__main__':
    rows = {name: json.dumps(seeded(name)) for name in CASES}
    lines = ',\n'.join(f'"{name}": {row}' for name, row in rows.items())
    RECORD.write_text(f'{{\n{lines}\n}}\n')
