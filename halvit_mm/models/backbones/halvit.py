"""HaLViT: a plain ViT with half of the weights."""

from ...registry import MODELS
from ..layers import TiedEncoderLayer
from .plain_vit import PlainViT

__all__ = ['HaLViT']


@MODELS.register_module()
class HaLViT(PlainViT):
    """HaLViT (Koyun and Toereyin, 2024), Sec. 3.1 and Table 1.

    Every layer has two square matrices for attention and one for its FFN;
    each serves as itself and as its transpose. Patch embedding, position
    embeddings, norms and biases are those of the untied ViT. ``'tiny'`` has
    11,048,832 parameters and ``'medium'`` 43,331,328, without a head, at 224
    px with a cls token.

    Args: As for :class:`PlainViT`.
    """

    layer_cls = TiedEncoderLayer
