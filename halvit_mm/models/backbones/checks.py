"""Checks of a backbone's arguments."""

from typing import Dict, Optional, Sequence

from torch import Tensor


def check_multiple(size: Sequence[int], patch_size: int) -> None:
    """Refuse images that are not made of whole patches."""
    if any(side % patch_size for side in size):
        raise ValueError(
            f'the image size {tuple(size)} is not a multiple of patch_size='
            f'{patch_size}: resize it, or pad it with '
            f'data_preprocessor.pad_size_divisor={patch_size}'
        )


def check_indices(name: str, indices, num_layers: int) -> Sequence[int]:
    """Count layers from the first one; refuse what is none of them."""
    indices = [indices] if isinstance(indices, int) else list(indices)
    for index in indices:
        if not -num_layers <= index < num_layers:
            raise ValueError(
                f'{name}={indices}: {index} is none of the {num_layers} '
                f'layers 0 to {num_layers - 1}'
            )
    return [index % num_layers for index in indices]


def check_windows(
    window_size: int, indexes, num_layers: int, num_extra_tokens: int
) -> Sequence[int]:
    """Count windowed layers from the first one; refuse what has no window."""
    name = 'window_block_indexes'
    indexes = check_indices(name, indexes, num_layers)
    if indexes and window_size < 1:
        raise ValueError(
            f'{name}={indexes} need a window_size of at least 1, not '
            f'{window_size}'
        )
    if indexes and num_extra_tokens:
        raise ValueError(
            'a cls token or a register belongs to no window: set '
            'with_cls_token=False, num_registers=0'
        )
    return indexes


def check_registers(
    state_dict: Dict[str, Tensor], prefix: str, own: Optional[Tensor]
) -> None:
    """Check that a checkpoint has the registers of a model.

    Args:
        state_dict: Of a ViT.
        prefix: What the backbone's keys start with in it.
        own: The model's, (1, number, D), or None.

    Raises:
        ValueError: If it has another number of them.
    """
    theirs = state_dict.get(f'{prefix}register_tokens')
    there, here = (0 if x is None else x.shape[1] for x in (theirs, own))
    if f'{prefix}pos_embed' in state_dict and there != here:
        raise ValueError(
            f'the checkpoint has {there} register tokens, the backbone '
            f'{here}: set num_registers={there}'
            + ", or leave them out with ignore=['register_tokens'], which "
            'changes the output' * bool(there)
        )
