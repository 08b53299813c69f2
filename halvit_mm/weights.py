"""Every file that the hosts load is read by our loader, as data only."""

from typing import Any, Dict, Optional

from mmengine.runner import CheckpointLoader
from torch import Tensor

from .checkpoint import (
    host_meta,
    is_trusted,
    load_content,
    local_copy,
    read_weights,
)
from .checkpoint.log import say


def load_from_data_only(
    filename: str, map_location: Optional[Any] = None
) -> Dict:
    """Load a checkpoint for mmengine, never executing what it holds.

    With it ``load_from``, ``--resume``, ``init_cfg``, ``DetInferencer`` and
    the hosts' own tools take safetensors, compressed or not, as well.

    Args:
        filename: A local file, or an address, see
            :func:`halvit_mm.checkpoint.local_copy`.
        map_location: Device to read to, by default the CPU.

    Returns:
        The checkpoint without config text, which the hosts would execute.

    Raises:
        FileNotFoundError, ValueError: As
            :func:`halvit_mm.checkpoint.read_weights`.
    """
    path = local_copy(filename)
    if path.endswith('.safetensors'):
        weights = read_weights(path)
        return dict(
            state_dict=weights.state_dict, meta=host_meta(weights.header)
        )
    content, _ = load_content(path, map_location or 'cpu')
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f'{path} is no checkpoint but a {kind}')
    if not is_trusted():
        _drop_text(content, path)
    if filename.startswith('mmcls://'):  # where the hosts want the backbone
        state = content.get('state_dict', content)
        names = (name for name in state if name.startswith('backbone.'))
        state = {name.removeprefix('backbone.'): state[name] for name in names}
        return dict(state_dict=state)
    return content


def _drop_text(content: Dict, path: str) -> None:
    """Take out, in place, what mmengine executes as the text of a config."""
    hub = content.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    places, dropped = dict(meta=content.get('meta'), message_hub=info), []
    for place, found in places.items():
        for key in ('config', 'cfg'):
            if isinstance(found, dict) and found.pop(key, None) is not None:
                dropped.append(f'{place}.{key}')
    # Anything else with keys, such as a record of numpy, could hold it.
    for found in (hub, *places.values()):
        if not isinstance(found, (dict, Tensor, type(None))):
            raise ValueError(
                f'{path} is no checkpoint: what it says about its training '
                f'is in a {type(found).__name__}, not in a dict'
            )
    if dropped:
        say(
            f'{path}: the text of a config is left out, for it would be '
            f'executed: {", ".join(dropped)}; where a config is needed, '
            'name its file'
        )


# The host's own loaders run what a file holds where it is not plain.
for _scheme in list(CheckpointLoader._schemes):
    CheckpointLoader.register_scheme(_scheme, load_from_data_only, force=True)
