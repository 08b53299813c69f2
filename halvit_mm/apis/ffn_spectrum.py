"""What a ViT's FFNs do to their input: copy it, or change it in any direction.

With ``gelu(u) = u / 2 + e(u)``, e even, the linear part of HaLViT's FFN is
``W^T W x / 2``: positive semi-definite, and for a fresh W close to a multiple
of x itself. Whether that shows is measured here.

Shapes: T tokens, D width.
"""

from typing import Dict, List, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

__all__ = ['FFNStatistics', 'ffn_statistics', 'first_images']


class FFNStatistics(NamedTuple):
    """One layer's FFN on real tokens.

    Attributes:
        slope: Mean over tokens of ``<y, x> / <x, x>``, x the FFN's input and
            y its output: the multiple of the input that is added.
        share: Mean over tokens of ``<y, x>^2 / (|x|^2 |y|^2)``, 0 to 1: the
            share of the output's energy along the input. A random direction
            has 1 / D.
        eigenvalues: Real parts of the eigenvalues of ``dy / dx``, of all
            tokens that were asked for, sorted.
    """

    slope: float
    share: float
    eigenvalues: List[float]


def first_images(cfg: Config, model: nn.Module) -> Tensor:
    """The first batch of a classifier's validation images.

    Args:
        cfg: Of a classifier.
        model: The classifier, for its preprocessor.

    Returns:
        (B, 3, H, W), normalised.
    """
    loader = Runner.build_dataloader(cfg.val_dataloader)
    return model.data_preprocessor(next(iter(loader)))['inputs']


def ffn_statistics(
    backbone: nn.Module,
    images: Tensor,
    num_tokens: int = 512,
    num_jacobians: int = 8,
) -> List[FFNStatistics]:
    """Measure every layer.

    Args:
        backbone: A plain ViT whose layers call an ``ffn`` of their own.
        images: (B, 3, H, W).
        num_tokens: Tokens, spread evenly over all of them.
        num_jacobians: How many of them give eigenvalues.

    Returns:
        One entry a layer.

    Raises:
        ValueError: If a layer has no FFN of its own.
    """
    ffns = [layer.ffn for layer in backbone.layers]
    if None in ffns:
        raise ValueError('layers that borrow their FFN cannot be measured')
    calls: Dict[int, tuple] = {}
    handles = [
        ffn.register_forward_pre_hook(
            lambda _, args, i=i: calls.__setitem__(i, args)
        )
        for i, ffn in enumerate(ffns)
    ]
    backbone.eval()
    with torch.no_grad():
        backbone(images)
    for handle in handles:
        handle.remove()
    return [
        _statistics(ffn, calls[i], num_tokens, num_jacobians)
        for i, ffn in enumerate(ffns)
    ]


def _statistics(ffn, args, num_tokens, num_jacobians) -> FFNStatistics:
    """Args: args: What the FFN was called with, (B, T, D) first."""
    x, *others = args
    rows = x.flatten(0, -2)
    x = rows[torch.linspace(0, len(rows) - 1, num_tokens).long()]

    def apply(tokens: Tensor) -> Tensor:
        return ffn(tokens[None], *others)[0]

    with torch.no_grad():
        y = apply(x)
    along, energy = (x * y).sum(-1), (x * x).sum(-1)
    step = max(1, num_tokens // num_jacobians)
    eigenvalues = [
        torch.linalg.eigvals(_jacobian(apply, token)).real
        for token in x[::step][:num_jacobians]
    ]
    return FFNStatistics(
        (along / energy).mean().item(),
        (along**2 / (energy * (y * y).sum(-1))).mean().item(),
        torch.cat(eigenvalues).sort().values.tolist(),
    )


def _jacobian(apply, token: Tensor) -> Tensor:
    """Args: token: (D,). Returns: (D, D), row i is ``d y_i / d x``."""
    copies = token.repeat(len(token), 1).requires_grad_()
    outputs = apply(copies).diagonal()  # y_i of copy i
    return torch.autograd.grad(outputs.sum(), copies)[0]
