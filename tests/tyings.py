"""Every tying that a config can choose, as small backbones."""

from halvit_mm.models import GroupedViT, HaLViT, PlainViT
from tests.helpers import ARCH, build, randomise

ARCH4 = dict(ARCH, num_layers=4)
#: Name -> class and options.
TYINGS = {
    'untied-tau': (PlainViT, dict(attention_scale=8)),
    'paper': (HaLViT, {}),
    'signed': (HaLViT, dict(gain='signed')),
    'paper-shift-tau': (HaLViT, dict(hidden_shift=32, attention_scale=3)),
    'like': (HaLViT, dict(attn='like')),
    'like-signed': (HaLViT, dict(attn='like', gain='signed')),
    'like-signed-shift': (
        HaLViT,
        dict(attn='like', gain='signed', hidden_shift=16),
    ),
    'like-untied-ffn': (HaLViT, dict(attn='like', gain='untied')),
    'groups': (GroupedViT, dict(share_vectors=False)),
    'groups-like-signed': (
        GroupedViT,
        dict(attn='like', gain='signed', share_vectors=False),
    ),
    'groups-with-biases': (GroupedViT, dict(attn='like', gain='signed')),
    'like-pairs': (
        GroupedViT,
        dict(attn='like', shares=['ffn'], share_vectors=False),
    ),
    'untied-attn-signed': (HaLViT, dict(attn='untied', gain='signed')),
}


def tied(name, **kwargs):
    """A backbone of four layers of that tying, at random numbers."""
    cls, options = TYINGS[name]
    return randomise(build(cls, arch=ARCH4, **options, **kwargs)).eval()
