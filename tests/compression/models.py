"""A model of two MLPs per stage that is compressed in these tests."""

import copy

import torch
from torch import nn

from halvit_mm.compression import calibrate, prepare

D, HIDDEN, BLOCKS = 12, 40, 4


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(D, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, D)

    def forward(self, x, *others):
        return self.fc2(torch.nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.mix = nn.Linear(D, D)
        self.mlp = MLP()

    def forward(self, x):
        x = x + self.mix(x.roll(1, 1))
        return x + self.mlp(self.norm(x), None, (2, 3))


class Net(nn.Module):
    """Tokens in, tokens out."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
            self.head = nn.Linear(D, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


GROUPS = (r'blocks\.[01]\.mlp', r'blocks\.[23]\.mlp')
WIDTH = 2 * 2 * HIDDEN  # columns of a group


def tokens(seed=0, batch=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 6, D, generator=generator)


def batches(number=5):
    return [tokens(seed) for seed in range(number)]


def compress(config, folder, original, data, report=lambda progress: None):
    """Compress a copy of a model; the compression and the errors."""
    compression = prepare(copy.deepcopy(original), config)
    errors = calibrate(original, compression, data, folder, report)
    return compression, errors
