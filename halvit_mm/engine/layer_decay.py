"""Learning rates that fall with the depth of a layer, for detectors too."""

from typing import Optional

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning rates of a backbone, as in BEiT (Bao et al., 2022).

    The rate of a parameter in layer ``i`` of ``n``, counted from 1, is
    ``layer_decay_rate ** (n - i + 1)`` times what it is otherwise; embeddings
    are layer 0, and what is not of the layers has the full rate. mmpretrain's
    constructor does that for classifiers only, and without ``lr_mult``.

    Args:
        optim_wrapper_cfg: As for mmengine's constructor.
        paramwise_cfg: The same, with ``layer_decay_rate`` and, by default 1,
            ``backbone_lr_mult``, a factor of all rates in the backbone.

    Raises:
        ValueError: For a rate of decay that is none.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None
    ) -> None:
        cfg = dict(paramwise_cfg or {})
        self.decay = cfg.pop('layer_decay_rate', None)
        self.factor = cfg.pop('backbone_lr_mult', 1.0)
        for name, value in (
            ('layer_decay_rate', self.decay),
            ('backbone_lr_mult', self.factor),
        ):
            if not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ValueError(
                    f'paramwise_cfg.{name}={value!r}: it is a number above 0 '
                    'and up to 1, such as 0.7'
                )
        # Nothing else asked for, mmengine would make no groups.
        super().__init__(optim_wrapper_cfg, cfg or dict(custom_keys={}))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser and its wrapper.

        Args:
            model: A detector or a classifier, wrapped for training or not.

        Returns:
            The wrapper; its groups have one parameter each.

        Raises:
            ValueError: If the model has no backbone that tells depths.
        """
        wrapper = super().__call__(model)
        model = getattr(model, 'module', model)
        backbone = getattr(model, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise ValueError(
                f'layer_decay_rate={self.decay}: the backbone '
                f'{type(backbone).__name__} of {type(model).__name__} does '
                'not tell the depths of its layers (get_layer_depth)'
            )
        names = {id(param): name for name, param in model.named_parameters()}
        rates = {}
        for group in wrapper.optimizer.param_groups:
            (param,) = group['params']
            name = names[id(param)]
            depth, num_depths = backbone.get_layer_depth(name, 'backbone.')
            group['lr'] *= self.decay ** (num_depths - 1 - depth)
            if name.startswith('backbone.'):
                group['lr'] *= self.factor
            rates.setdefault(depth, group['lr'])
        print_log(
            'learning rates by depth, of what is trained: '
            + ', '.join(f'{i}: {rates[i]:.2g}' for i in sorted(rates)),
            logger='current',
        )
        return wrapper
