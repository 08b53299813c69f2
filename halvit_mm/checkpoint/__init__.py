"""Checkpoints in and out, for any ``nn.Module``."""

from .files import atomic_write, read_header, save_weights
from .key_maps import KEY_MAPS, from_ours, to_ours
from .loading import check_coverage, load_pretrained, read_state_dict

__all__ = [
    'KEY_MAPS',
    'atomic_write',
    'check_coverage',
    'from_ours',
    'load_pretrained',
    'read_header',
    'read_state_dict',
    'save_weights',
    'to_ours',
]
