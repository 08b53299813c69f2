"""Backbones that count what a pretrained checkpoint covers."""

import logging
from typing import Optional

from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit

from ...checkpoint import load_weights

_PRETRAINED = ('Pretrained', PretrainedInit)


class PretrainedBackbone(BaseModule):
    """Serves ``init_cfg=dict(type='Pretrained', checkpoint=..., ...)``.

    It goes to :func:`halvit_mm.checkpoint.load_weights`, which refuses what
    does not fit. The other keys are those of its arguments; ``prefix`` is
    ``'backbone.'`` by default. ``made_by``, the command that makes the file,
    is named where there is none.
    """

    def init_weights(self) -> None:
        """Initialise, or load what ``init_cfg`` of type Pretrained names.

        Raises:
            FileNotFoundError: If there is no such checkpoint, with the way
                out.
            ValueError: If it does not fit the backbone, or if ``init_cfg``
                mixes Pretrained with something else.
        """
        cfgs = self.init_cfg or []
        cfgs = [cfgs] if isinstance(cfgs, dict) else cfgs
        pretrained = [c for c in cfgs if c['type'] in _PRETRAINED]
        if not pretrained:
            super().init_weights()
            if (frozen := getattr(self, 'frozen_stages', 0)) > 0:
                print_log(
                    f'frozen_stages={frozen}, but no pretrained weights are '
                    f'given: {type(self).__name__} stays at random numbers '
                    'unless a checkpoint is loaded over it',
                    logger='current',
                    level=logging.WARNING,
                )
            return
        if len(cfgs) > 1:
            raise ValueError(
                f'init_cfg={cfgs}: what is Pretrained takes no other entry'
            )
        _load(self, **{k: v for k, v in cfgs[0].items() if k != 'type'})
        self.is_init = True


def _load(
    module: BaseModule,
    checkpoint: str,
    prefix: Optional[str] = 'backbone.',
    made_by: Optional[str] = None,
    **options,
) -> None:
    try:
        load_weights(module, checkpoint, prefix=prefix or '', **options)
    except FileNotFoundError as error:
        lines = [f'{error}.']
        if made_by:
            lines.append(f'Make it:            {made_by}')
        scratch = 'model.backbone.init_cfg=None'
        if getattr(module, 'frozen_stages', 0) > 0:
            scratch += ' model.backbone.frozen_stages=-1'
        lines.append(f'Start from scratch: --cfg-options {scratch}')
        raise FileNotFoundError('\n'.join(lines)) from None
