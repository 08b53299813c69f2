"""What one tied layer moves through memory, counted from shapes.

Counted is every pass over activations outside of the products and attention,
forward and backward, in 16 bits with a residual stream in float32 and
F = 4 D. What a product reads first and writes last is the same for all and is
not counted; what it reads on top (``beta = 1``) is. Weights, means and inverse
deviations are left out: they do not grow with tokens times channels.

Shapes: T tokens, D width, F hidden width (4 D).
"""

from typing import Dict, NamedTuple, Tuple

# Bytes per token and channel: of a (T, D) tensor in 16 bits and in float32,
# of a (T, F) tensor in 16 bits.
HALF, FULL, HIDDEN = 2, 4, 8


class Pass(NamedTuple):
    """A kernel, or several alike, that walk over activations.

    Attributes:
        what: What it computes.
        reads: Bytes per token and channel of each tensor that is read.
        writes: The same, of what is written.
        count: Number of such kernels in a layer.
        kernel: Name of the CUDA kernel, if it is one of ours.
    """

    what: str
    reads: Tuple[int, ...]
    writes: Tuple[int, ...] = ()
    count: int = 1
    kernel: str = ''

    @property
    def moved(self) -> int:
        """Bytes per token and channel of all of them."""
        return self.count * (sum(self.reads) + sum(self.writes))


#: `F.linear` with W and W.t() under autocast.
NAIVE = (
    Pass('norm', (FULL,), (FULL,), count=2),
    Pass('cast of the norm, for q, k, v and the FFN', (FULL,), (HALF,), 4),
    Pass('GELU', (HIDDEN,), (HIDDEN,)),
    Pass('residual sum', (FULL, HALF), (FULL,), count=2),
    Pass('cast of the gradient of a branch', (FULL,), (HALF,), count=2),
    Pass('gradient of bq, bk, bv, bo and b2', (HALF,), count=5),
    Pass('GELU backward', (HIDDEN, HIDDEN), (HIDDEN,)),
    Pass('gradient of b1', (HIDDEN,)),
    Pass('cast of dx, of q, k, v and the FFN', (HALF,), (FULL,), count=4),
    Pass('sum of dx over q, k and v', (FULL, FULL), (FULL,), count=2),
    Pass('norm backward', (FULL, FULL), (FULL,), count=2),
    Pass('gradients of a norm', (FULL, FULL), count=2),
    Pass('sum with the residual gradient', (FULL, FULL), (FULL,), count=2),
)

_NORM = 'add_layer_norm_kernel'
_NORM_BACKWARD = 'add_layer_norm_backward_kernel'
#: The operators.
OURS = (
    Pass('norm', (FULL,), (HALF,), kernel=_NORM),
    Pass('residual sum and norm', (FULL, HALF), (FULL, HALF), kernel=_NORM),
    Pass('GELU', (HIDDEN,), (HIDDEN,), kernel='activation_kernel'),
    Pass('residual sum', (FULL, HALF), (FULL,)),
    Pass('cast of the gradient of a branch', (FULL,), (HALF,)),
    Pass('gradient of bq, bk, bv, bo and b2', (HALF,), count=5),
    Pass(
        'GELU backward, GELU again and gradient of b1',
        (HIDDEN, HIDDEN),
        (HIDDEN, HIDDEN),
        kernel='activation_backward_kernel',
    ),
    Pass('dx of q, k and v summed in the products', (HALF,), count=2),
    Pass(
        'residual sum and norm backward',
        (FULL, HALF, FULL),
        (FULL, HALF),
        kernel=_NORM_BACKWARD,
    ),
    Pass('norm backward', (HALF, FULL), (FULL,), kernel=_NORM_BACKWARD),
    Pass('sum with the residual gradient', (FULL, FULL), (FULL,)),
)
TABLES = {'naive': NAIVE, 'ours': OURS}


def bytes_per_element(table: Tuple[Pass, ...]) -> int:
    """Sum a table: bytes per token and channel, forward and backward."""
    return sum(row.moved for row in table)


def kernel_bytes(tokens: int, width: int) -> Dict[str, int]:
    """Count what each of our kernels moves in a step of one layer.

    Args:
        tokens: T.
        width: D.

    Returns:
        Name of the kernel -> bytes, all its launches together.
    """
    moved: Dict[str, int] = {}
    for row in OURS:
        if row.kernel:
            bytes_ = tokens * width * row.moved
            moved[row.kernel] = moved.get(row.kernel, 0) + bytes_
    # Wq, Wkv (D, D) and W (4 D, D): float32 is read, 16 bits are written.
    moved['cast_kernel'] = 6 * width * width * (FULL + HALF)
    return moved


def estimate() -> Dict:
    """Return both sums and the rows that they come from."""
    return {
        name: dict(
            bytes=bytes_per_element(table),
            rows=[dict(row._asdict(), moved=row.moved) for row in table],
        )
        for name, table in TABLES.items()
    }
