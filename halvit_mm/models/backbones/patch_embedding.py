"""A patch embedding at another patch size."""

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn


def fit_patches(state_dict: dict, name: str, projection: nn.Conv2d) -> None:
    """Resample a checkpoint's patch embedding to a model's patch size.

    Args:
        state_dict: Of a ViT; changed.
        name: Of the weight, (D, C, P, P), in it.
        projection: The model's.

    Raises:
        ValueError: If the checkpoint's patches are not square, or those of
            the model.
    """
    weight, own = state_dict.get(name), projection.weight
    if weight is None or weight.ndim != 4 or weight.shape[:2] != own.shape[:2]:
        return  # another model, which the loader tells
    there, here = tuple(weight.shape[2:]), tuple(own.shape[2:])
    if there == here:
        return
    if there[0] != there[1] or here[0] != here[1]:
        raise ValueError(
            f'patches of {there[0]} x {there[1]} pixels cannot be resampled '
            f'to {here[0]} x {here[1]}, only square ones to square ones: set '
            'patch_size to that of the checkpoint'
        )
    print_log(
        f'the patch embedding is resampled: {there[0]} -> {here[0]} pixels',
        logger='current',
    )
    state_dict[name] = resample_patches(weight, here[0])


def resample_patches(weight: Tensor, patch_size: int) -> Tensor:
    r"""Resample a patch embedding, FlexiViT (Beyer et al., 2023), Sec. 3.

    The new weights give resized patches the tokens that the old ones give the
    patches themselves: with the matrix B of a bilinear resize,
    :math:`\hat{w} = (B^T)^+ w`. To larger patches that is exact.

    Args:
        weight: (D, C, P, P).
        patch_size: The new P, in pixels.

    Returns:
        (D, C, patch_size, patch_size), float32.
    """
    old = weight.shape[-1]
    eye = torch.eye(old * old, dtype=torch.float64, device=weight.device)
    resize = F.interpolate(
        eye.view(-1, 1, old, old),
        size=(patch_size, patch_size),
        mode='bilinear',
        antialias=True,
    ).flatten(1)  # B^T: (P * P, patch_size * patch_size)
    found = weight.double().flatten(2) @ torch.linalg.pinv(resize).mT
    shape = (*weight.shape[:2], patch_size, patch_size)
    return found.view(shape).float()
