"""Weights of safetensors files for the hosts' own tools."""

from typing import Dict, Optional

from mmengine.runner import CheckpointLoader

from .checkpoint import host_meta, read_weights


@CheckpointLoader.register_scheme(r'.*\.safetensors$', force=True)
def load_from_safetensors(
    filename: str, map_location: Optional[str] = None
) -> Dict:
    """Let mmengine load safetensors, which it does not know.

    With it ``load_from``, ``DetInferencer`` and the hosts' own tools take
    such files, compressed or not; see
    :func:`halvit_mm.checkpoint.read_weights`. ``map_location`` is not used:
    tensors are copied to where the model is.
    """
    weights = read_weights(filename)
    return dict(state_dict=weights.state_dict, meta=host_meta(weights.header))
