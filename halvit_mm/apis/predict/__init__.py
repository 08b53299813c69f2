"""Detections on images and videos, from a file of weights."""

from .prediction import Prediction
from .predictor import Predictor, Summary
from .sources import Source

__all__ = ['Prediction', 'Predictor', 'Source', 'Summary']
