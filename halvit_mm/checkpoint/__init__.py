"""Checkpoints in and out, for any ``nn.Module``."""

from .loading import load_pretrained, read_state_dict

__all__ = ['load_pretrained', 'read_state_dict']
