"""Checkpoints in and out, for any ``nn.Module``."""

from .classes import describe_classes, read_classes
from .conversion import from_ours, to_ours
from .fetching import local_copy
from .files import atomic_write, load_content, read_header, save_weights
from .header import host_meta
from .key_maps import KEY_MAPS
from .loading import load_weights
from .model_types import check_model, header_model, header_pipeline
from .origins import find_origin
from .reading import read_state_dict, read_weights
from .untrusted import check_whole, is_trusted, trust_files
from .whole import find_checkpoint, not_finite, read_meta

__all__ = [
    'KEY_MAPS',
    'atomic_write',
    'check_model',
    'check_whole',
    'describe_classes',
    'find_checkpoint',
    'find_origin',
    'from_ours',
    'header_model',
    'header_pipeline',
    'host_meta',
    'is_trusted',
    'load_content',
    'load_weights',
    'local_copy',
    'not_finite',
    'read_classes',
    'read_header',
    'read_meta',
    'read_state_dict',
    'read_weights',
    'save_weights',
    'to_ours',
    'trust_files',
]
