"""Models without heads, and classifiers, from pixels on."""

from typing import Tuple

import torch.nn.functional as F
from torch import Tensor, nn


class Features(nn.Module):
    """Normalisation, padding, backbone and neck of a model.

    Args:
        model: A detector of mmdet or a classifier of mmpretrain.
    """

    #: Images of an example: 1 would be taken for the only number.
    num_images = 2

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.preprocessor = model.data_preprocessor
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else None

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Extract features.

        Args:
            images: (B, 3, H, W), RGB, 0 to 255.

        Returns:
            What the neck returns, or else the backbone.
        """
        x = self.backbone(self.prepare(images))
        return x if self.neck is None else self.neck(x)

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise and pad images, as the model's preprocessor.

        Args:
            images: (B, 3, H, W), RGB, 0 to 255.

        Returns:
            (B, 3, H', W'), multiples of the preprocessor's divisor.
        """
        ours = self.preprocessor
        # The hosts read BGR; what mmpretrain calls to_rgb mmengine keeps.
        if not getattr(
            ours, 'to_rgb', getattr(ours, '_channel_conversion', 0)
        ):
            images = images.flip(1)
        if ours._enable_normalize:
            images = (images - ours.mean) / ours.std
        divisor = ours.pad_size_divisor
        if divisor == 1:
            return images
        # Of positive numbers only: ONNX would round negative ones to zero.
        bottom, right = (
            (side + divisor - 1) // divisor * divisor - side
            for side in images.shape[2:]
        )
        return F.pad(images, (0, right, 0, bottom), value=ours.pad_value)


class Classifier(nn.Module):
    """A classifier from pixels to what its head returns before the softmax.

    Args:
        model: A classifier of mmpretrain.
    """

    num_images, names = 2, ('logits',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.features, self.head = Features(model), model.head

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: (B, 3, H, W), RGB, 0 to 255.

        Returns:
            Logits, (B, classes).
        """
        return self.head(self.features(images))
