"""Training parts; importing this package fills the registries."""

from .optim_wrapper import BFloat16OptimWrapper

__all__ = ['BFloat16OptimWrapper']
