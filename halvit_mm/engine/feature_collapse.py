"""Tells when a backbone's features stop depending on the image."""

import logging
from collections import deque
from typing import Any, Deque, Iterable, Optional, Tuple

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..registry import HOOKS
from .checkpoint_hook import unwrap

_START = 3  # steps that the later ones are compared with
_POOLED = 8  # measurements that are looked at together: small batches differ


@HOOKS.register_module()
class FeatureCollapseHook(Hook):
    """Warns when features become nearly the same everywhere.

    A learning rate that is too high for pretrained weights turns a backbone's
    features into a constant within some steps: Adam moves every number by the
    rate, however small the weights and the features of early layers are. The
    loss goes on falling to that of an answer which is the same for each
    image, and stays there.

    Measured are shares of the features' energy: what varies over positions
    and images (``varying_share`` in the log), and what the means of images
    vary by (``share_between_images``), over the last eight measurements.

    In the demo's healthy training of a detector they fall to 0.5 and 0.08 of
    those at the start, for it does not need what a whole image looks like.

    Args:
        interval: Steps between two measurements.
        least: The varying share, as a part of that of the first three steps,
            below which a warning is given, once.
        least_between: The same of the share between images.
    """

    def __init__(
        self,
        interval: int = 5,
        least: float = 0.4,
        least_between: float = 0.02,
    ) -> None:
        self.interval = interval
        self.least = dict(
            varying_share=least, share_between_images=least_between
        )
        self._measures = self._is_told = False
        self._last: Optional[Tuple[Tensor, Tensor]] = None
        self._pool: Deque[Tuple[Tensor, Tensor]] = deque(maxlen=_POOLED)

    def before_train(self, runner: Any) -> None:
        """Look at the output of the backbone, if it is trained."""
        backbone = getattr(unwrap(runner.model), 'backbone', None)
        if backbone is None or not any(
            param.requires_grad for param in backbone.parameters()
        ):
            return

        def look(module: nn.Module, args: tuple, outs: Any) -> None:
            last = outs[-1] if isinstance(outs, (tuple, list)) else outs
            measures = self._measures and module.training
            if measures and isinstance(last, Tensor) and last.ndim > 2:
                self._last = means_and_energies(last.detach())

        backbone.register_forward_hook(look)

    def before_train_iter(self, runner: Any, batch_idx: int, **_) -> None:
        """Measure in the first three steps and each ``interval``-th."""
        in_start = runner.iter < _START
        self._measures = in_start or runner.iter % self.interval == 0

    def after_train_iter(self, runner: Any, batch_idx: int, **_) -> None:
        """Compare what was measured with the start."""
        if self._last is None:
            return
        self._pool.append(self._last)
        self._last = None
        now = dict(zip(self.least, energy_shares(self._pool)))
        hub = runner.message_hub  # which checkpoints keep
        for name, share in now.items():
            hub.update_scalar(f'train/{name}', share)
        if runner.iter < _START:
            for name, share in now.items():
                hub.update_info(f'first_{name}', share)
            if runner.iter == _START - 1:
                self._pool.clear()
        elif len(self._pool) == _POOLED and not self._is_told:
            for name, share in now.items():
                first = hub.get_info(f'first_{name}', 0.0)
                if share < self.least[name] * first and not self._is_told:
                    self._warn(runner, name, share, first)

    def _warn(self, runner: Any, name: str, share: float, first: float):
        self._is_told = True
        layers = getattr(unwrap(runner.model).backbone, 'layers', ())
        freeze = f' (model.backbone.frozen_stages={len(layers)})' * bool(
            len(layers)
        )
        runner.logger.log(
            logging.WARNING,
            'the features of the backbone hardly depend on the image any '
            f'more (step {runner.iter + 1}): {name} is {share:.2%}, at the '
            f'start {first:.2%}. Probably the learning rate is too high for '
            'its weights: lower it, let it fall with depth '
            '(LayerDecayOptimWrapperConstructor) or freeze the backbone'
            f'{freeze}, and start again',
        )


def means_and_energies(features: Tensor) -> Tuple[Tensor, Tensor]:
    """The mean and the energy of each image's features.

    Args:
        features: (B, D, H, W), or tokens (B, T, D).

    Returns:
        (B, D), and (B,), means of squares summed over D.
    """
    if features.ndim == 4:
        features = features.flatten(2).mT
    features = features.float()
    return features.mean(1), features.square().sum(2).mean(1)


def energy_shares(
    measured: Iterable[Tuple[Tensor, Tensor]],
) -> Tuple[float, float]:
    """Shares of the energy that vary.

    Args:
        measured: From :func:`means_and_energies`, for several batches.

    Returns:
        The share that varies over positions and images, and that of the
        differences between the means of images, each from 0 to 1.
    """
    means, energies = map(torch.cat, zip(*measured))
    energy, mean = energies.mean(), means.mean(0)
    between = (means - mean).square().sum(1).mean()
    shares = torch.stack([energy - mean.square().sum(), between]) / energy
    return tuple(shares.nan_to_num().clamp(0, 1).tolist())
