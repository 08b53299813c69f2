"""Checkpoints in and out, for any ``nn.Module``."""

from .key_maps import KEY_MAPS, from_ours, to_ours
from .loading import check_coverage, load_pretrained, read_state_dict

__all__ = [
    'KEY_MAPS',
    'check_coverage',
    'from_ours',
    'load_pretrained',
    'read_state_dict',
    'to_ours',
]
