"""RigL during ordinary training of a compressed model."""

from typing import Optional

from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..compression import RigL, factors, scopes_of
from ..registry import HOOKS


@HOOKS.register_module()
class RigLHook(Hook):
    """Move the entries of sparse factors while a model is fine-tuned.

    FiPS, Sec. 3, Global Error Minimization: every ``interval`` steps the
    smallest entries are dropped, and as many grow where the gradient, averaged
    over all processes, is largest. The number of entries does not change.
    Masks are buffers, so that checkpoints hold them. Factors that a backbone
    freezes keep their entries.

    The hook counts iterations: under gradient accumulation the gradient is
    that of the last batch.

    Args:
        interval: Iterations between changes.
        ratio: Share of the entries that is exchanged at first; small, so
            that what the calibration found is kept (the paper's figure is
            lost in its text: our choice).
        end: Share of the training after which the masks stay.
        prune_scope: Where magnitudes are compared: ``'model'``, ``'group'``
            or ``'layer'``.
    """

    def __init__(
        self,
        interval: int = 50,
        ratio: float = 0.1,
        end: float = 0.75,
        prune_scope: str = 'model',
    ) -> None:
        self.interval = interval
        self.ratio = ratio
        self.end = end
        self.prune_scope = prune_scope
        self._rigl: Optional[RigL] = None

    def before_train(self, runner: Runner) -> None:
        """Find the factors that are trained.

        Args:
            runner: The runner of the training.

        Raises:
            ValueError: If there are none.
        """
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        # Of what the backbone freezes no gradient tells where to grow.
        found = [f for f in factors(model) if f.factor.requires_grad]
        if not found:
            raise ValueError(
                'RigLHook: the model has no sparse factors that are trained'
            )
        self._rigl = RigL(
            scopes_of(found, self.prune_scope),
            sparsity=0.0,  # the masks are there: it is never started
            total_steps=runner.max_iters,
            interval=self.interval,
            ratio=self.ratio,
            end=self.end,
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None
    ) -> None:
        """Ask for the gradients of pruned entries where they are needed."""
        self._rigl.before_step(runner.iter + 1)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Drop and grow entries where it is time."""
        for weight in self._rigl.weights():
            if weight.gradient is not None:  # else ranks would part
                all_reduce(weight.gradient, 'mean')
        self._rigl.after_step(runner.iter + 1)
