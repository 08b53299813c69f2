"""Tells when a backbone's features stop depending on the image."""

import logging
from typing import Any, Optional

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..registry import HOOKS
from .checkpoint_hook import unwrap

_INFO = 'varying_share'


@HOOKS.register_module()
class FeatureCollapseHook(Hook):
    """Warns when features become nearly the same everywhere.

    A learning rate that is too high for pretrained weights turns a backbone's
    features into a constant within some steps: Adam moves every number by the
    rate, however small the weights and the features of early layers are. The
    loss goes on falling to that of an answer which is the same for each
    image, and stays there.

    Measured is the share of the features' energy that varies over positions
    and images of a batch (``varying_share`` in the log), compared with that of
    the first steps.

    Args:
        interval: Steps between two measurements.
        least: The share, as a part of that of the first steps, below which
            three measurements in a row are warned of, once.
    """

    def __init__(self, interval: int = 5, least: float = 0.33) -> None:
        self.interval = interval
        self.least = least
        self._measures = False
        self._share: Optional[Tensor] = None
        self._low = 0

    def before_train(self, runner: Any) -> None:
        """Look at the output of the backbone, if it is trained."""
        backbone = getattr(unwrap(runner.model), 'backbone', None)
        if backbone is None or not any(
            param.requires_grad for param in backbone.parameters()
        ):
            return

        def look(module: nn.Module, args: tuple, outs: Any) -> None:
            last = outs[-1] if isinstance(outs, (tuple, list)) else outs
            if self._measures and isinstance(last, Tensor) and last.ndim > 2:
                self._share = varying_share(last.detach())

        backbone.register_forward_hook(look)

    def before_train_iter(self, runner: Any, batch_idx: int, **_) -> None:
        """Measure in the first three steps and each ``interval``-th."""
        self._measures = runner.iter < 3 or runner.iter % self.interval == 0

    def after_train_iter(self, runner: Any, batch_idx: int, **_) -> None:
        """Compare what was measured with the start."""
        if self._share is None or self._low >= 3:
            return
        share, self._share = self._share.item(), None
        hub = runner.message_hub  # which checkpoints keep
        hub.update_scalar(f'train/{_INFO}', share)
        start = hub.get_info(_INFO, share)
        if runner.iter < 3 or _INFO not in hub.runtime_info:
            hub.update_info(_INFO, max(start, share))
            return
        self._low = self._low + 1 if share < self.least * start else 0
        if self._low == 3:
            runner.logger.log(
                logging.WARNING,
                'the features of the backbone hardly depend on the image any '
                f'more (step {runner.iter + 1}): {share:.1%} of their energy '
                f'varies, {start:.1%} at the start. The learning rate is too '
                'high for its weights: lower it, let it fall with depth '
                '(LayerDecayOptimWrapperConstructor) or freeze the backbone '
                '(model.backbone.frozen_stages=12), and start again',
            )


def varying_share(features: Tensor) -> Tensor:
    """The share of features' energy that is not the same everywhere.

    Args:
        features: (B, D, H, W), or tokens (B, T, D).

    Returns:
        A number from 0, all features are the same, to 1.
    """
    if features.ndim == 4:
        features = features.flatten(2).mT
    x = features.flatten(0, 1).float()
    energy = x.square().mean(0).sum()
    return 1 - x.mean(0).square().sum() / torch.clamp(energy, min=1e-12)
