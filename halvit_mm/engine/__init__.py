"""Training parts; importing this package fills the registries."""

from .graphed import GraphedForward
from .optim_wrapper import BFloat16OptimWrapper

__all__ = ['BFloat16OptimWrapper', 'GraphedForward']
