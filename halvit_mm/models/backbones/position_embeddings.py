"""Patches as tokens: position embeddings at any grid, and further tokens.

A state dict holds them as (1, extra + H * W, D): what belongs to the cls
token, then the grid in the order of rows. Their number does not always tell
the grid, so a backbone of 7 x 28 tokens marks its own with a small buffer. A
square one does without: its state dict is that of mmpretrain's ViT.
"""

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ..layers.window import is_dynamic
from .checks import check_registers
from .patch_embedding import fit_patches

Grid = Tuple[int, int]


class PositionEmbeddings(nn.Module):
    """Part of a backbone that makes tokens of patches.

    It works on ``pos_embed``, ``cls_token``, ``patch_resolution`` and
    ``interpolate_mode`` of mmpretrain's ``VisionTransformer``, which comes
    after it among the base classes.
    """

    antialias = False  # when interpolating to a smaller grid

    def add_registers(self, number: int) -> None:
        """Add tokens that only attention sees, to the extra ones."""
        tokens = torch.randn(1, number, self.pos_embed.shape[-1]) * 0.02
        self.register_tokens = nn.Parameter(tokens) if number else None
        self.num_extra_tokens += number

    def mark_grid(self) -> None:
        """Store the grid where it is not square.

        The buffer ``pos_embed_grid``, (2,), is what tells a checkpoint of
        7 x 28 tokens from one of 28 x 7 or 14 x 14.
        """
        height, width = self.patch_resolution
        if height != width:
            grid = torch.tensor([height, width])
            self.register_buffer('pos_embed_grid', grid)

    def _prepare_pos_embed(self, state_dict, prefix, *args, **kwargs) -> None:
        # The hook that the base class registers for load_state_dict.
        self.adapt_state_dict(state_dict, prefix, own=True)

    def adapt_state_dict(
        self, state_dict: dict, prefix: str = '', own: bool = False
    ) -> None:
        """Fit the embeddings of a checkpoint, in place.

        A cls token that this model lacks is dropped; one that the checkpoint
        lacks keeps its present value. Position embeddings are interpolated
        from the checkpoint's grid to ours; see :func:`source_grid`. Patches of
        another size are resampled, but for a checkpoint of this very model.

        Args:
            state_dict: Of a ViT; changed. Embeddings of another width are
                left as they are.
            prefix: What this backbone's keys start with.
            own: Whether it is said to be of this very model, as in resuming.

        Raises:
            ValueError: If the checkpoint's grid cannot be told, its patches
                cannot be resampled, or the number of registers differs.
        """
        check_registers(state_dict, prefix, self.register_tokens)
        if not own:
            name = f'{prefix}patch_embed.projection.weight'
            fit_patches(state_dict, name, self.patch_embed.projection)
        key, cls_key = f'{prefix}pos_embed', f'{prefix}cls_token'
        mark = f'{prefix}pos_embed_grid'
        source = state_dict.get(key)
        if source is None or source.shape[-1] != self.pos_embed.shape[-1]:
            return
        num_extra = 1 if cls_key in state_dict else 0
        extra, grid = source[:, :num_extra], source[:, num_extra:]
        if self.cls_token is None:
            if state_dict.pop(cls_key, None) is not None:
                _log('the cls token is dropped, for this model has none')
            extra = extra[:, :0]
        elif not num_extra:
            _log('there is no cls token: it keeps its present value')
            state_dict[cls_key] = self.cls_token.detach().clone()
            extra = self.pos_embed.detach()[:, :1].to(source)
        here = tuple(self.patch_resolution)
        given = state_dict.pop(mark, None)
        given = None if given is None else tuple(given.tolist())
        there = source_grid(grid.shape[1], here, given, own)
        if there != here:
            _log(f'position embeddings: {there} -> {here}')
            grid = self._resize(grid, there, here)
        state_dict[key] = torch.cat((extra, grid), dim=1)
        if hasattr(self, 'pos_embed_grid'):
            state_dict[mark] = torch.tensor(here)

    def embed_tokens(self, x: Tensor, hw: Grid) -> Tensor:
        """Add positions and the tokens that are no patches.

        Args:
            x: Patches, (B, H * W, D).
            hw: Height and width in tokens.

        Returns:
            (B, T, D): the cls token, registers and patches, in this order.
        """
        B = x.shape[0]
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(B, -1, -1), x), dim=1)
        x = x + self.pos_embed_for(hw)
        if self.register_tokens is None:
            return x
        extra, x = x.tensor_split((self._num_cls,), dim=1)
        return torch.cat((extra, self.register_tokens.expand(B, -1, -1), x), 1)

    @property
    def _num_cls(self) -> int:
        return 0 if self.cls_token is None else 1

    def pos_embed_for(self, hw: Grid) -> Tensor:
        """Interpolate the position embeddings for a forward pass.

        Args:
            hw: Height and width in tokens.

        Returns:
            (1, extra + H * W, D).
        """
        extra, grid = self.pos_embed.tensor_split((self._num_cls,), dim=1)
        return torch.cat(
            (extra, self._resize(grid, self.patch_resolution, hw)), dim=1
        )

    def _resize(self, grid: Tensor, there: Grid, here: Grid) -> Tensor:
        """Interpolate (1, H * W, D) from one grid to another."""
        # Whether a symbolic grid is the one that was learnt cannot be asked.
        if not is_dynamic(here) and tuple(there) == tuple(here):
            return grid
        maps = F.interpolate(
            grid.mT.float().unflatten(2, tuple(there)),
            size=here,
            mode=self.interpolate_mode,
            align_corners=False,
            antialias=self.antialias,
        )
        return maps.flatten(2).mT.to(grid)


def source_grid(
    num_tokens: int,
    here: Grid,
    given: Optional[Grid] = None,
    own: bool = False,
) -> Grid:
    """Find out which grid a checkpoint's position embeddings have.

    Args:
        num_tokens: Number of embeddings, without a cls token's.
        here: Height and width, in tokens, of the model that loads them.
        given: What the checkpoint or the user says, if anything.
        own: Whether the checkpoint is said to be of this very model; nothing
            but another number of tokens speaks against ``here`` then.

    Returns:
        ``given``, or the square grid of so many tokens, or ``here``.

    Raises:
        ValueError: If ``given`` has another number of tokens, or if nothing
            is given and neither a square nor ``here`` has so many.
    """
    if given is not None:
        if math.prod(given) != num_tokens:
            raise ValueError(
                f'the checkpoint has {num_tokens} position embeddings, not '
                f'those of the grid {given} that is said to be its own'
            )
        return given
    side = math.isqrt(num_tokens)
    is_square, fits = side**2 == num_tokens, math.prod(here) == num_tokens
    if not is_square and not fits:
        raise ValueError(
            f'the checkpoint has {num_tokens} position embeddings: no square '
            f'grid, nor {here[0]} x {here[1]} as here. Say which with '
            'source_grid=(height, width) in init_cfg, or build the backbone '
            'with the img_size of the checkpoint; the forward pass '
            'interpolates to any other size'
        )
    if here == (side, side):
        return here
    if fits and (own or not is_square):
        _log(
            f'{num_tokens} position embeddings that do not tell their grid '
            f'are taken as they are, for {here[0]} x {here[1]} tokens; in '
            'init_cfg, source_grid=(height, width) says another one'
        )
        return here
    if fits:
        _log(
            f'{num_tokens} position embeddings may be of {side} x {side} or, '
            f'as here, {here[0]} x {here[1]} tokens: the square grid is '
            f'assumed; source_grid={here} in init_cfg takes them as they are'
        )
    return side, side


def _log(message: str) -> None:
    print_log(message, logger='current')
