"""Checkpoints in and out, for any ``nn.Module``."""

from .loading import check_coverage, load_pretrained, read_state_dict

__all__ = ['check_coverage', 'load_pretrained', 'read_state_dict']
