"""A model's parameters, file size and multiply-adds."""

import copy
from collections import Counter
from functools import partial
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from ..compression import SharedBase, factors
from ..models import CompressedBackbone
from .fake_data import fake_batch, image_size
from .table import Table

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_CPU_ATTENTION_BACKWARD = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
)
_ATTENTION = '_scaled_dot_product'


class PartInfo(NamedTuple):
    """One part of a model, or all of it."""

    name: str
    stored: int  # parameters, each counted once
    effective: int  # parameters, each counted at every use: without tying
    megabytes: float  # of the weights in a file, 10^6 bytes
    macs: int  # multiply-adds for an image, without the attention matmuls
    attention_macs: int  # multiply-adds of the two attention matmuls


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model as mmengine's Runner does, before its weights."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = copy.deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        preprocessor = copy.deepcopy(cfg.data_preprocessor)  # it is changed
        model.setdefault('data_preprocessor', preprocessor)
    return MODELS.build(model)


def build_counted(cfg: Config) -> nn.Module:
    """Build a config's model so that its stored parameters can be counted.

    Which entries of a compressed backbone are pruned only its file tells.
    """
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, CompressedBackbone) and module.checkpoint:
            module.init_weights()
    return model


def count_parameters(module: nn.Module) -> Tuple[int, int]:
    """Count the stored and the effective parameters of a module.

    A module that uses its ``weight`` several times has ``num_uses``, and one
    that several layers share has ``num_sharers``. The pruned entries of a
    sparse factor are not stored; effectively the product of base and factor
    counts.
    """
    stored = sum(p.numel() for p in module.parameters())
    pruned = sum(int((~f.weight.mask).sum()) for f in factors(module))
    return stored - pruned, _count_uses(module, 1)


def _count_uses(module: nn.Module, sharers: int) -> int:
    """Count each parameter once for every layer and place that uses it."""
    if isinstance(module, SharedBase):
        return 0  # the products count instead
    sharers *= getattr(module, 'num_sharers', 1)
    uses = {'weight': getattr(module, 'num_uses', 1)}
    own = sum(
        p.numel() * sharers * uses.get(name, 1)
        for name, p in module.named_parameters(recurse=False)
    )
    children = dict(module.named_children())
    if parametrize.is_parametrized(module, 'weight'):
        own += module.weight.numel() * sharers * uses['weight']
        del children['parametrizations']
    return own + sum(_count_uses(m, sharers) for m in children.values())


def flop_counter() -> FlopCounterMode:
    """Make a counter that knows the attention kernel of CPUs, too.

    It counts two operations per multiply-add.
    """

    def forward(q, k, v, *args, out_shape=None, **kwargs) -> int:
        return sdpa_flop_count(q, k, v)

    def backward(grad, q, k, v, *args, out_shape=None, **kwargs) -> int:
        return sdpa_backward_flop_count(grad, q, k, v)

    known = {_CPU_ATTENTION: forward, _CPU_ATTENTION_BACKWARD: backward}
    return FlopCounterMode(display=False, custom_mapping=known)


def forward_pass(
    cfg: Config, size: Tuple[int, int], model: nn.Module, num_images: int = 1
) -> Callable[[], object]:
    """Prepare a forward pass of noise without gradients.

    Args:
        cfg: Config of the model.
        size: Height and width in pixels.
        model: The model, a detector or a classifier, which is put into eval
            mode.
        num_images: Images in the pass.
    """
    batch = fake_batch(cfg, size, num_images)
    data = model.eval().data_preprocessor(batch, False)
    return torch.no_grad()(partial(model, **data, mode='tensor'))


def _flops_of(module: nn.Module, key: str, counts: Dict) -> Counter:
    """Sum up FLOPs by operator; of an uncalled module, its children's."""
    if key in counts:
        return Counter(counts[key])
    children = module.named_children()
    parts = (_flops_of(m, f'{key}.{name}', counts) for name, m in children)
    return sum(parts, Counter())


def model_info(
    cfg: Config, size: Optional[Tuple[int, int]] = None
) -> List[PartInfo]:
    """Count parameters, file size and multiply-adds of a model's parts.

    The model runs on the CPU with random weights. In a two-stage detector the
    multiply-adds of the heads depend on the number of proposals.

    Args:
        cfg: Config of a detector or a classifier.
        size: Height and width in pixels; by default what the config tests
            with.

    Returns:
        An entry for each child of the model that has parameters, and one for
        the whole model at the end.
    """
    model = build_counted(cfg)
    forward = forward_pass(cfg, size or image_size(cfg), model)
    with flop_counter() as counter:
        forward()
    counts = counter.get_flop_counts()
    root = type(model).__name__
    parts = [(name, m, f'{root}.{name}') for name, m in model.named_children()]
    rows = []
    for name, module, key in [*parts, ('total', model, 'Global')]:
        stored, effective = count_parameters(module)
        if stored:
            state = module.state_dict().values()
            megabytes = sum(t.numel() * t.element_size() for t in state) / 1e6
            flops = _flops_of(module, key, counts)
            attention = sum(
                n for k, n in flops.items() if _ATTENTION in str(k)
            )
            macs = (sum(flops.values()) - attention) // 2, attention // 2
            rows.append(PartInfo(name, stored, effective, megabytes, *macs))
    return rows


def print_model_info(
    title: str, size: Tuple[int, int], rows: List[PartInfo]
) -> None:
    """Print the rows of :func:`model_info` as a table, below a title."""
    cells = [
        {
            'part': row.name,
            'stored parameters': f'{row.stored:,}',
            'effective parameters': f'{row.effective:,}',
            'file MB': f'{row.megabytes:.1f}',
            'multiply-adds G': f'{row.macs / 1e9:.2f}',
            'with attention G': f'{(row.macs + row.attention_macs) / 1e9:.2f}',
        }
        for row in rows
    ]
    Table(cells, f'{title}, one image of {size[0]} x {size[1]}').print()
