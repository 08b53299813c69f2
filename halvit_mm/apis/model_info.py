"""What a model weighs and computes."""

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
from .fake_data import fake_batch, image_size
from .table import Table

__all__ = [
    'PartInfo',
    'build_model',
    'count_parameters',
    'flop_counter',
    'forward_pass',
    'model_info',
    'print_model_info',
]

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_CPU_ATTENTION_BACKWARD = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
)
_ATTENTION = '_scaled_dot_product'


class PartInfo(NamedTuple):
    """One part of a model, or all of it.

    Attributes:
        name: Name of the part.
        stored: Parameters, each counted once.
        effective: Parameters that a network without tying or sharing would
            need for the same layers: each weight counted at every use.
        megabytes: Size of the weights in a file, 10^6 bytes.
        macs: Multiply-adds of an image, without the attention matmuls.
        attention_macs: Multiply-adds of the two attention matmuls.
    """

    name: str
    stored: int
    effective: int
    megabytes: float
    macs: int
    attention_macs: int


def build_model(cfg: Config) -> nn.Module:
    """Args: cfg: A config. Returns: Its model, not initialised."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = copy.deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:  # as mmengine's Runner does
        preprocessor = copy.deepcopy(cfg.data_preprocessor)  # it is changed
        model.setdefault('data_preprocessor', preprocessor)
    return MODELS.build(model)


def count_parameters(module: nn.Module) -> Tuple[int, int]:
    """Stored and effective parameters.

    A module that uses its ``weight`` more than once says so by
    ``num_uses``, one that several layers share by ``num_sharers``. Of a sparse
    factor what is not pruned is stored; its product counts as a weight.

    Args:
        module: Any module.

    Returns:
        The two counts.
    """
    stored = sum(p.numel() for p in module.parameters())
    pruned = sum(int((~f.weight.mask).sum()) for f in factors(module))
    return stored - pruned, _count_uses(module, 1)


def _count_uses(module: nn.Module, sharers: int) -> int:
    """Parameters, each times the layers and places that use it."""
    if isinstance(module, SharedBase):
        return 0  # it counts in the products
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

    Returns:
        PyTorch's counter. It counts two operations per multiply-add.
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
    """Prepare a forward pass of noise, to count or to time it.

    Args:
        cfg: Of the model.
        size: Height and width in pixels.
        model: A detector or classifier; it is put into eval mode.
        num_images: Images in the pass.

    Returns:
        A function that runs the pass without gradients.
    """
    batch = fake_batch(cfg, size, num_images)
    data = model.eval().data_preprocessor(batch, False)
    return torch.no_grad()(partial(model, **data, mode='tensor'))


def _count_flops(model: nn.Module, cfg: Config, size) -> FlopCounterMode:
    counter = flop_counter()
    forward = forward_pass(cfg, size, model)
    with counter:
        forward()
    return counter


def _split(flops: Dict) -> Tuple[int, int]:
    attention = sum(n for op, n in flops.items() if _ATTENTION in str(op))
    return (sum(flops.values()) - attention) // 2, attention // 2


def _flops_of(module: nn.Module, key: str, counts: Dict) -> Counter:
    """FLOPs by operator; of a module never called, those of its children."""
    if key in counts:
        return Counter(counts[key])
    children = module.named_children()
    parts = (_flops_of(m, f'{key}.{name}', counts) for name, m in children)
    return sum(parts, Counter())


def model_info(
    cfg: Config, size: Optional[Tuple[int, int]] = None
) -> List[PartInfo]:
    """Parameters, file size and multiply-adds, part by part.

    Computed on the CPU with random weights. The heads' multiply-adds of a
    two-stage detector depend on the number of proposals.

    Args:
        cfg: Of any detector or classifier here.
        size: Height and width in pixels; by default what the config tests
            with.

    Returns:
        One entry per child of the model that holds parameters, and last the
        model itself.
    """
    model = build_model(cfg)
    counts = _count_flops(model, cfg, size or image_size(cfg))
    counts = counts.get_flop_counts()
    root = type(model).__name__
    parts = [(name, m, f'{root}.{name}') for name, m in model.named_children()]
    rows = []
    for name, module, key in [*parts, ('total', model, 'Global')]:
        stored, effective = count_parameters(module)
        if stored:
            state = module.state_dict().values()
            size_bytes = sum(t.numel() * t.element_size() for t in state)
            macs, attention_macs = _split(_flops_of(module, key, counts))
            rows.append(
                PartInfo(
                    name,
                    stored,
                    effective,
                    size_bytes / 1e6,
                    macs,
                    attention_macs,
                )
            )
    return rows


def print_model_info(
    title: str, size: Tuple[int, int], rows: List[PartInfo]
) -> None:
    """Print :func:`model_info`'s rows as a table.

    Args:
        title: Above the table.
        size: Height and width in pixels.
        rows: To print.
    """
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
