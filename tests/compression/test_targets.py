"""Which weights are found, how they lie, what is refused."""

import pytest
import torch
from torch import nn

from halvit_mm.compression import FiPSConfig, find_groups, prepare
from halvit_mm.models import SharedHaLViT
from halvit_mm.models.layers import TiedLinear, share
from tests.helpers import build

from .models import GROUPS, HIDDEN, Block, D, Net

ATTENTION = {r'.*\.mix': 'in'}


def test_groups():
    first, second = find_groups(Net(), GROUPS)
    assert (first.name, second.name) == ('group0', 'group1')
    assert [unit.name for unit in second.units] == [
        'blocks.2.mlp',
        'blocks.3.mlp',
    ]
    assert [t.name for t in first.targets] == [
        'blocks.0.mlp.fc1',
        'blocks.0.mlp.fc2',
        'blocks.1.mlp.fc1',
        'blocks.1.mlp.fc2',
    ]
    assert [t.transposed for t in first.targets] == [True, False] * 2
    assert (first.dim, first.width) == (D, 4 * HIDDEN)
    for target in first.targets:
        columns = target.columns()
        assert columns.shape == (D, HIDDEN)
        weight = target.module.weight
        assert torch.equal(columns, weight.T if target.transposed else weight)


@pytest.mark.parametrize('side', ['in', 'out'])
def test_square_weights_say_how_they_lie(side):
    pattern = r'blocks\.0\.(mlp|mix)'
    (group,) = find_groups(Net(), [pattern], {r'.*\.mix': side})
    (mix,) = (t for t in group.targets if t.name.endswith('mix'))
    assert mix.transposed == (side == 'in')


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(6, 12)
        self.norm = nn.LayerNorm(4)


class Same(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(4, 8)
        self.b.weight = self.a.weight


class Borrowing(nn.Module):
    """Two blocks with one MLP, as layers that share hold it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Block(), Block()
        del self.second.mlp
        self.second.__dict__['mlp'] = self.first.mlp


class Tied(nn.Module):
    """Two tied layers with one matrix."""

    def __init__(self):
        super().__init__()
        self.a, self.b = TiedLinear(4, 8), TiedLinear(4, 8)
        share(self.b, self.a, 'weight')


class Infinite(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 8)
        self.a.weight.data[1, 1] = torch.inf


@pytest.mark.parametrize(
    ('model', 'groups', 'square', 'message'),
    [
        (Net, ['mlp'], None, r"no module matches the group 'mlp'.*blocks\.0"),
        (Net, [GROUPS[0]] * 2, None, 'a unit belongs to one group'),
        (Net, [r'blocks\.0', GROUPS[0]], ATTENTION, 'belongs to one group'),
        (Net, [r'blocks\.0\.norm'], None, 'holds no linear weights'),
        (Net, [r'blocks\.0\.mix'], None, r'mix is square \(12 x 12\)'),
        (Net, [r'.*mix'], {'.*': 'up'}, "is 'up', not 'in' or 'out'"),
        (Mixed, ['[ab]'], None, r'short sides differ.*\(8, 4\).*\(12, 6\)'),
        (Same, ['[ab]'], None, 'b and a are one weight'),
        (Infinite, ['a'], None, 'a holds values that are not finite'),
        (Tied, ['b'], None, 'b cannot be factorised: .* another layer'),
        (
            Borrowing,
            ['second'],
            ATTENTION | {'.*': 'in'},
            r'second cannot be factorised: it uses second\.mlp',
        ),
        (
            Borrowing,
            [r'second\.mlp'],
            None,
            r'matches only second\.mlp, which another layer shares with it: '
            r'its owner is first\.mlp$',
        ),
    ],
)
def test_what_is_refused(model, groups, square, message):
    with pytest.raises(ValueError, match=message):
        find_groups(model(), groups, square)


def test_shared_layers():
    """The owner's FFN is found; what uses the owner's matrices is refused."""
    model = build(SharedHaLViT)
    (group,) = find_groups(model, [r'shared\.ffn'])
    assert [t.module for t in group.targets] == [model.shared.ffn.tied]
    with pytest.raises(ValueError, match=r'its owner is shared\.ffn$'):
        find_groups(model, [r'layers\.\d\.ffn'])
    with pytest.raises(ValueError, match=r'uses layers\.0\.attn\.\w+, which'):
        find_groups(model, [r'layers\.\d\.attn'], {'.*': 'in'})


def test_what_is_compressed_already_is_refused():
    model = Net()
    prepare(model, FiPSConfig(GROUPS))
    with pytest.raises(ValueError, match='already, by a compression'):
        find_groups(model, GROUPS)
