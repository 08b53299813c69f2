"""A backbone whose weights are FiPS products, for configs."""

from pathlib import Path
from typing import Optional, Tuple, Union

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...checkpoint import load_weights
from ...compression import attach_structure, factors, read_structures
from ...compression.parametrization import BASES
from ...registry import MODELS

_INNER = 'inner.'


@MODELS.register_module()
class CompressedBackbone(BaseModule):
    """Any backbone, compressed as a file says.

    Bases and factors exist before the optimiser is built, so that the model
    trains as any other one does; the file's weights are loaded when weights
    are initialised. Other attributes are those of the inner backbone.

    Args:
        backbone: Config of the backbone as it was, or the module itself.
        checkpoint: File of ``tools/compress.py``; None leaves the backbone
            as it is.
        prefix: What the backbone's names start with in the file.
        made_by: Command that makes the file, for the error message.

    Raises:
        FileNotFoundError: If there is no such file, with the way out.
        ValueError: If it is damaged or of another architecture.
    """

    def __init__(
        self,
        backbone: Union[dict, nn.Module],
        checkpoint: Optional[str] = None,
        prefix: str = 'backbone.',
        made_by: Optional[str] = None,
    ) -> None:
        super().__init__()
        if isinstance(backbone, dict):
            # Its own pretrained weights are not asked for any more.
            backbone = MODELS.build(dict(backbone, init_cfg=None))
        self.inner = backbone
        self.checkpoint = checkpoint
        self.prefix = f'{prefix}{_INNER}'
        if checkpoint is None:
            return
        if not Path(checkpoint).is_file():
            way_out = f'\nMake it: {made_by}' if made_by else ''
            raise FileNotFoundError(
                f'there is no compressed file {checkpoint}{way_out}'
            )
        structures = read_structures(Path(checkpoint))
        try:
            attach_structure(self.inner, structures, self.prefix)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f'{checkpoint}: {error}') from error

    def init_weights(self) -> None:
        """Load the file's weights.

        Raises:
            ValueError: If they do not fit.
        """
        if self.checkpoint is None:
            self.inner.init_weights()
            return
        load_weights(
            self.inner, self.checkpoint, prefix=self.prefix, min_coverage=1.0
        )
        self.is_init = True

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Extract what the backbone extracts from images, (B, 3, H, W)."""
        return self.inner(x)

    def __getattr__(self, name: str):
        """Look up in the inner backbone what is not found here."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'inner':  # not built yet
                raise
            return getattr(self.inner, name)

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Depth of a parameter, for layer-wise learning rates.

        A base has the depth of the last layer that uses it, as a matrix that
        layers share has.

        Args:
            param_name: Name of the parameter in the model.
            prefix: What this backbone's names start with.

        Returns:
            The depth, from 0 for the stem, and the number of depths.
        """
        prefix = f'{prefix}{_INNER}'
        depth = self.inner.get_layer_depth
        group = param_name.removeprefix(f'{prefix}{BASES}.').split('.')[0]
        bases = getattr(self.inner, BASES, {})
        if param_name.startswith(f'{prefix}{BASES}.') and group in bases:
            return max(
                depth(f'{prefix}{factor.name}', prefix)
                for factor in factors(self.inner)
                if factor.weight.base is bases[group]
            )
        return depth(param_name, prefix)
