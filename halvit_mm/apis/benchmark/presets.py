"""Cases that belong together."""

from typing import List, Sequence

import torch

from .cases import LayerCase

__all__ = ['grid']

_WIDTHS = ((384, 6), (768, 12))  # D and heads: HaLViT-T and -M
# Batch and tokens of an image: training on ImageNet, detection in two
# images of 800 x 1344 pixels, one image.
_TOKENS = ((256, 197), (2, 4200), (1, 197))


def grid(
    device: str,
    modes: Sequence[str] = ('train', 'infer'),
    dtypes: Sequence[str] = ('bf16',),
    force: bool = False,
    act: str = 'gelu',
) -> List[LayerCase]:
    """Layers of both widths on 50432, 8400 and 197 tokens.

    Args:
        device: To run on.
        modes: Of each size.
        dtypes: Of each size.
        force: Whether a CPU may do it, which takes hours.
        act: GELU of the layers.

    Returns:
        The cases.

    Raises:
        ValueError: On a CPU, unless forced.
    """
    if torch.device(device).type == 'cpu' and not force:
        raise ValueError(
            'the grid is for a GPU: on a CPU it takes hours; --force runs it '
            'all the same'
        )
    return [
        LayerCase(
            mode=mode,
            dtype=dtype,
            device=device,
            act=act,
            batch=batch,
            tokens=tokens,
            embed_dims=embed_dims,
            num_heads=num_heads,
        )
        for mode in modes
        for dtype in dtypes
        for embed_dims, num_heads in _WIDTHS
        for batch, tokens in _TOKENS
    ]
