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
