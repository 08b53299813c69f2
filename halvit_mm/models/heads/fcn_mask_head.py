"""A mask head that starts without an opinion."""

from mmdet.models.roi_heads.mask_heads import FCNMaskHead as HostFCNMaskHead
from torch import nn

from ...registry import MODELS


@MODELS.register_module()
class FCNMaskHead(HostFCNMaskHead):
    """The host's head, whose last layer starts near zero.

    As in Detectron2 (``normal_(predictor.weight, std=0.001)``). The host
    starts it by Kaiming's rule in fan-out mode, a standard deviation of
    ``sqrt(2 / classes)``: above a pyramid whose maps are normalised, as
    ViTDet's, the loss of one class starts at 3 instead of log 2 = 0.69, and
    the first steps make the backbone's features constant to lower it.

    Args:
        args, kwargs: As for mmdet's ``FCNMaskHead``.
    """

    def init_weights(self) -> None:
        """Initialise as the host does, but for the last layer."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.001)
