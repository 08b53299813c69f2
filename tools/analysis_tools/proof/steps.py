"""The steps of the proof, in the order in which they run."""

from typing import Dict

from .kernels import estimate as estimate_bytes
from .runner import Setup, Step

#: Name, what, function and seconds; the limits are several times what a step
#: should take.
_ROWS = (
    ('versions', 'GPU, driver, toolkit, PyTorch', 'machine:versions', 30),
    ('estimate', 'bytes of a layer, from shapes', 'steps:estimate', 30),
    ('build', 'the library, for this GPU', 'machine:build', 240),
    ('tests', 'tests/ops, those marked cuda', 'machine:tests', 150),
    ('opcheck', 'every operator', 'operators:opchecks', 90),
    ('streams', 'two graphs on two streams', 'layers:streams', 60),
    ('layers', 'one layer, four ways', 'layers:layers', 240),
    ('graphs', 'eager against CUDA graph', 'layers:graphs', 60),
    ('memcheck', 'small cases', 'machine:memcheck', 120),
    ('backbone', 'HaLViT-M and ViT-B, training', 'models:backbone', 120),
    ('single', 'HaLViT-M, one image', 'models:single', 60),
    ('detector', 'Mask R-CNN, training', 'models:detector', 120),
)
_GPU_ONLY = ('build', 'streams', 'graphs', 'memcheck')
#: Name -> step.
STEPS = {
    name: Step(
        *(name, what, f'{__package__}.{function}', seconds),
        gpu_only=name in _GPU_ONLY,
    )
    for name, what, function, seconds in _ROWS
}


def estimate(setup: Setup) -> Dict:
    """Count the bytes that a layer moves; nothing is run."""
    return estimate_bytes()
