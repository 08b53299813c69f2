"""Ranks, truncated SVD and growth of FiPS.

FiPS (Learning Parameter Sharing with Tensor Decompositions and Sparsity),
Secs. 2 and 3. Shapes: d dimension of the base, P columns of a group, r rank.
"""

import math
from typing import NamedTuple, Tuple

import torch
from torch import Tensor, nn

#: How factors grow beyond rank d (Sec. 5): new columns of the base are zero
#: and new rows of V are its top rows by ``tau``; rows of V are random; or top
#: columns of the base are doubled and their rows of V halved.
GROWTH = ('hybrid', 'random', 'splitting')

#: ``'exact'``; ``'randomized'``, which suits a rank well below d; or
#: ``'auto'``, which takes the latter for large matrices.
SVD_METHODS = ('auto', 'exact', 'randomized')

#: Multiplications of an exact SVD, d^2 P, above which 'auto' approximates.
_MAX_EXACT = 5e10


class Factors(NamedTuple):
    """A matrix M, (d, P), as about ``base @ factor``.

    Attributes:
        base: (d, r), U.
        factor: (r, P), the singular values times V.
        error: ``|M - base factor| / |M|`` before anything is pruned.
    """

    base: Tensor
    factor: Tensor
    error: float


def num_parameters(dim: int, width: int, rank: int, sparsity: float) -> float:
    """Count the parameters of U, and of V without the zeros."""
    return rank * (dim + (1 - sparsity) * width)


def rank_for_budget(
    dim: int,
    width: int,
    budget: float,
    sparsity: float,
    scaled: bool = False,
) -> int:
    """Largest rank whose parameters a budget allows (Sec. 3).

    ``r = floor(budget d P / (d + (1 - sparsity) P))``; beyond d factors grow.

    Args:
        dim, width: d and P.
        budget: Share of the dense parameters, ``d P``.
        sparsity: Share of the entries of V that is zero, 0 to 1.
        scaled: Whether each column has a scale, which the budget includes.

    Raises:
        ValueError: If no rank meets the budget, with the reachable range, or
            if the sparsity is not in [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f'sparsity={sparsity}: it is at least 0 and below 1')
    least = num_parameters(dim, width, 1, sparsity) / (dim * width)
    least += scaled / dim
    if not least <= budget <= 1:
        raise ValueError(
            f'a budget of {budget} cannot be met: {width} columns of {dim} '
            f'at sparsity {sparsity} reach {least:.4f} to 1.0000'
        )
    available = budget * dim * width - scaled * width
    return math.floor(available / (dim + (1 - sparsity) * width) + 1e-9)


def decompose(
    matrix: Tensor,
    rank: int,
    method: str = 'auto',
    growth: str = 'hybrid',
    tau: float = 32.0,
    seed: int = 0,
) -> Factors:
    """Truncated SVD of a matrix (d, P), grown where the rank is beyond d.

    The options are those of :class:`.config.FiPSConfig`; the factors have the
    dtype of the matrix.
    """
    dim, width = matrix.shape
    kept = min(rank, dim, width)
    if method == 'auto':
        is_large = dim * dim * width > _MAX_EXACT
        method = 'randomized' if is_large and kept < dim / 2 else 'exact'
    devices = [matrix.device] if matrix.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        wide = matrix.double() if method == 'exact' else matrix.float()
        if method == 'exact':
            u, s, vh = torch.linalg.svd(wide, full_matrices=False)
        else:
            u, s, v = torch.svd_lowrank(wide, min(kept + 16, dim), niter=4)
            vh = v.t()
        base, factor = u[:, :kept], s[:kept, None] * vh[:kept]
        error = (wide - base @ factor).norm() / wide.norm().clamp_min(1e-30)
        base, factor = _grow(base, factor, rank, growth, tau)
    return Factors(
        base.to(matrix.dtype).contiguous(),
        factor.to(matrix.dtype).contiguous(),
        error.item(),
    )


def _grow(base, factor, rank, growth, tau) -> Tuple[Tensor, Tensor]:
    """Bring (d, r0) and (r0, P) to the rank, where it is larger than r0."""
    old = len(factor)
    more = rank - old
    if more <= 0:
        return base, factor
    rows = torch.arange(more) % old  # the top rows, repeated if need be
    columns = base.new_zeros(len(base), more)
    if growth == 'splitting':
        copies = 1 + torch.bincount(rows, minlength=old).to(factor)
        factor = factor / copies[:, None]
        columns, new = base[:, rows], factor[rows]
    elif growth == 'hybrid':
        new = factor[rows] / tau
    else:
        new = torch.empty(more, factor.shape[1], dtype=factor.dtype)
        nn.init.normal_(new, std=(2 / rank) ** 0.5)  # He, fan-in r
        new = new.to(factor.device)
    return torch.cat((base, columns), dim=1), torch.cat((factor, new))
