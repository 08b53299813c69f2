"""Backbones that count what a pretrained checkpoint covers."""

from mmengine.model import BaseModule, PretrainedInit

from ...checkpoint import load_pretrained

__all__ = ['PretrainedBackbone']

_PRETRAINED = ('Pretrained', PretrainedInit)


class PretrainedBackbone(BaseModule):
    """Serves ``init_cfg=dict(type='Pretrained', ...)``.

    It goes to :func:`halvit_mm.checkpoint.load_pretrained`, which refuses
    what does not fit.
    """

    def init_weights(self) -> None:
        """Initialise, or load what ``init_cfg`` of type Pretrained names.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it does not fit the backbone, or if ``init_cfg``
                mixes Pretrained with something else.
        """
        cfgs = self.init_cfg or []
        cfgs = [cfgs] if isinstance(cfgs, dict) else cfgs
        pretrained = [c for c in cfgs if c['type'] in _PRETRAINED]
        if not pretrained:
            super().init_weights()
            return
        if len(cfgs) > 1:
            raise ValueError(
                f'init_cfg={cfgs}: what is Pretrained takes no other entry'
            )
        kwargs = {k: v for k, v in pretrained[0].items() if k != 'type'}
        load_pretrained(self, **kwargs)
        self.is_init = True
