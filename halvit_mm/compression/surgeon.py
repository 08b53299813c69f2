"""Optimal brain surgeon: the rest makes up for what is pruned.

A linear layer's squared error on its calibration inputs is a quadratic form
of the change of its weights, whose Hessian is the covariance of the inputs.
What a removal costs, and how the weights that stay are to move, has a closed
form (Hassibi and Stork, 1993; entries of large layers as in SparseGPT, Frantar
and Alistarh, 2023; whole columns as in ZipLM, Kurtic et al., 2023).

Shapes: m outputs and n inputs of a layer.
"""

from typing import Dict, NamedTuple, Tuple

import torch
from torch import Tensor, nn

from .activations import ActivationStore

#: Added to the covariance's diagonal, as a share of its mean.
DAMPING = 1e-2
#: Columns of which entries are chosen at once.
BLOCK = 64


class Inputs(NamedTuple):
    """What a linear layer sees of the calibration images.

    Attributes:
        mean: Of its inputs, (n,).
        covariance: (n, n).
        row_weight: What a squared error of each output adds to that of the
            unit, (m,), as a share of the energy of the unit's output.
    """

    mean: Tensor
    covariance: Tensor
    row_weight: Tensor

    def moved_bias(self, change: Tensor) -> Tensor:
        """What a bias gains, (m,), where weights lose ``change``, (m, n)."""
        return change @ self.mean


class _Sums:
    """Sums over the calls of one layer."""

    def __init__(self, layer: nn.Linear) -> None:
        m, n = layer.weight.shape
        self.count = 0
        self.x = layer.weight.new_zeros(n)
        self.xx = layer.weight.new_zeros(n, n)
        self.gg = layer.weight.new_zeros(m)

    def hook(self, layer: nn.Module, args: Tuple, output: Tensor) -> None:
        x = args[0].detach().flatten(0, -2)
        self.count += len(x)
        self.x += x.sum(0)
        self.xx += x.t() @ x
        output.register_hook(self.add_gradient)

    def add_gradient(self, gradient: Tensor) -> None:
        self.gg += gradient.flatten(0, -2).square().sum(0)

    def inputs(self, energy: float) -> Inputs:
        mean = self.x / self.count
        covariance = self.xx / self.count - torch.outer(mean, mean)
        return Inputs(mean, covariance, self.gg / energy)


def measure(
    unit: nn.Module,
    layers: Dict[str, nn.Linear],
    store: ActivationStore,
    name: str,
) -> Dict[str, Inputs]:
    """Collect what layers of a unit see, and how much their outputs matter.

    The latter is the diagonal of a Gauss-Newton Hessian, estimated with one
    random direction of the unit's output per token (Hutchinson).

    Args:
        unit: A unit of the original model.
        layers: Linear layers inside of it, by any name.
        store: The unit's calls.
        name: Name of the unit in ``store``.

    Returns:
        For each layer what it sees.
    """
    sums = {key: _Sums(layer) for key, layer in layers.items()}
    handles = [
        layer.register_forward_hook(sums[key].hook)
        for key, layer in layers.items()
    ]
    device = next(unit.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    energy = 0.0
    try:
        for batch in range(store.num_batches):
            call = store.get(name, batch, device)
            x, *others = call.args
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                output = unit(x, *others)
                probe = torch.empty_like(output)
                probe.bernoulli_(0.5, generator=generator)
                torch.autograd.grad(output, x, 2 * probe - 1)
            energy += call.output.square().sum().item()
    finally:
        for handle in handles:
            handle.remove()
    return {key: s.inputs(max(energy, 1e-30)) for key, s in sums.items()}


def _damped(covariance: Tensor) -> Tensor:
    """The Hessian, in double precision and positive definite."""
    # Rounding in float32 leaves it a little asymmetric, which its inverse
    # would multiply until it is not positive definite any more.
    hessian = (covariance.double() + covariance.t().double()) / 2
    ridge = DAMPING * hessian.diagonal().mean().clamp_min(1e-12)
    return hessian + ridge * torch.eye(len(hessian)).to(hessian)


def saliency(weight: Tensor, hessian: Tensor, row_weight: Tensor) -> Tensor:
    """What the removal of each entry of (m, n) costs, if it were the only one.

    Args:
        weight: (m, n).
        hessian: (n, n), a covariance.
        row_weight: (m,), see :class:`Inputs`.
    """
    inverse = torch.linalg.inv(_damped(hessian)).diagonal().to(weight)
    return weight.square() / inverse * row_weight[:, None]


def prune_entries(
    weight: Tensor, hessian: Tensor, row_weight: Tensor, kept: Tensor
) -> Tuple[Tensor, Tensor]:
    """Set entries to zero, a block of columns at a time.

    Each block prunes as many of its entries as ``kept`` does, but those that
    are cheapest by then; entries to the right make up for them.

    Args:
        weight, hessian, row_weight: As for :func:`saliency`.
        kept: A first choice of the entries that stay, (m, n).

    Returns:
        The weight and the entries that stay.
    """
    factor = torch.linalg.cholesky(
        torch.linalg.inv(_damped(hessian)), upper=True
    ).to(weight)
    weight, kept = weight.clone(), kept.clone()
    for start in range(0, weight.shape[1], BLOCK):
        columns = slice(start, start + BLOCK)
        block, inverse = weight[:, columns], factor[columns, columns]
        cost = (block / inverse.diagonal()).square() * row_weight[:, None]
        stays = kept[:, columns]
        chosen = cost.flatten().topk(int(stays.sum())).indices
        stays = torch.zeros_like(stays).flatten().index_fill(0, chosen, True)
        kept[:, columns] = stays = stays.view_as(block)
        errors = torch.zeros_like(block)
        for i in range(block.shape[1]):
            lost = block[:, i] * ~stays[:, i] / inverse[i, i]
            block[:, i:] -= torch.outer(lost, inverse[i, i:])
            errors[:, i] = lost
        weight[:, columns] = block * stays
        weight[:, start + BLOCK :] -= errors @ factor[columns, start + BLOCK :]
    return weight, kept


def prune_columns(
    weight: Tensor, hessian: Tensor, number: int
) -> Tuple[Tensor, Tensor]:
    """Remove inputs of a layer, one after another, the cheapest first.

    Args:
        weight: (m, n).
        hessian: (n, n), a covariance.
        number: Inputs that stay.

    Returns:
        The weight without them, (m, number), and the indices of those that
        stay, in their order.
    """
    inverse = torch.linalg.inv(_damped(hessian))
    weight = weight.double()
    left = torch.ones(len(inverse), dtype=torch.bool, device=weight.device)
    for _ in range(len(inverse) - number):
        cost = weight.square().sum(0) / inverse.diagonal()
        i = int(cost.masked_fill(~left, torch.inf).argmin())
        row = inverse[i] / inverse[i, i]
        weight = weight - torch.outer(weight[:, i], row)
        inverse = inverse - torch.outer(inverse[:, i], row)
        left[i] = False
        inverse[i, i] = 1.0  # else 0 / 0
    indices = left.nonzero().flatten()
    return weight[:, indices], indices
