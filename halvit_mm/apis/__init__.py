"""What tools and users call: configs, training and testing, reports."""

from .coco_summary import coco_summary, print_coco_summary
from .config import load_config
from .model_info import model_info, print_model_info
from .narrowing import narrow_config
from .predict import Predictor
from .tensorboard import add_tensorboard
from .training import build_runner, test, train

__all__ = [
    'Predictor',
    'add_tensorboard',
    'build_runner',
    'coco_summary',
    'load_config',
    'model_info',
    'narrow_config',
    'print_coco_summary',
    'print_model_info',
    'test',
    'train',
]
