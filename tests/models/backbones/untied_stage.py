"""A stage of the tied ResNet in which nothing is shared."""

import copy

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A bottleneck with two 1x1 convolutions of its own."""

    def __init__(self, block, weight):
        super().__init__()
        block = copy.deepcopy(block)
        mid, channels = weight.shape
        self.reduce = nn.Conv2d(channels, mid, 1, bias=False)
        self.expand = nn.Conv2d(mid, channels, 1, bias=False)
        self.reduce.weight.data.copy_(weight[..., None, None])
        self.expand.weight.data.copy_(weight.t()[..., None, None])
        self.inner = nn.Sequential(
            block.bn1, nn.ReLU(), block.conv, block.bn2, nn.ReLU()
        )
        self.norm = block.bn3

    def forward(self, x, identity):
        y = self.norm(self.expand(self.inner(self.reduce(x))))
        return F.relu(y + identity)


class Stage(nn.Module):
    """The stage with copies of the matrix in every block.

    What stands before the blocks is written out as functions of the weights.
    """

    def __init__(self, stage):
        super().__init__()
        self.state = {k: v.clone() for k, v in stage.state_dict().items()}
        weight = stage.weight.detach()
        self.blocks = nn.ModuleList(Block(b, weight) for b in stage.blocks)

    def norm(self, x, name):
        mean, var, weight, bias = (
            self.state[f'{name}.{key}']
            for key in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return F.batch_norm(x, mean, var, weight, bias, self.training)

    def new_channels(self, x):
        """Grouped 3x3 convolution -> BN -> GELU."""
        weight = self.state['expand.0.weight']
        y = F.conv2d(x, weight, padding=1, groups=x.shape[1])
        return F.gelu(self.norm(y, 'expand.1'))

    def identity(self, x):
        """Depthwise 3x3 convolution of stride 2 -> BN -> BN."""
        weight = self.state['downsample.0.weight']
        y = F.conv2d(x, weight, stride=2, padding=1, groups=x.shape[1])
        return self.norm(self.norm(y, 'downsample.1'), 'downsample.2')

    def forward(self, x):
        x = torch.cat([self.new_channels(x), x], dim=1)
        first, *others = self.blocks
        strided = 'downsample.0.weight' in self.state
        x = first(x, self.identity(x) if strided else x)
        for block in others:
            x = block(x, x)
        return x
