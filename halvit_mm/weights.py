"""Every file that the hosts load is read by our loader, as data only."""

from typing import Any, Dict, Optional

from mmengine.runner import CheckpointLoader

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
    if isinstance(content, dict) and not is_trusted():
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
    hub = hub.get('runtime_info') if isinstance(hub, dict) else None
    places = {'meta': content.get('meta'), 'message_hub': hub}
    dropped = []
    for place, found in places.items():
        for key in ('config', 'cfg'):
            if isinstance(found, dict) and found.pop(key, None) is not None:
                dropped.append(f'{place}.{key}')
    if dropped:
        say(
            f'{path}: the text of a config is left out, for it would be '
            f'executed: {", ".join(dropped)}; name the config itself'
        )


# The host's own loaders run what a file holds where it is not plain.
for _scheme in [*CheckpointLoader._schemes, r'.*\.safetensors$']:
    CheckpointLoader.register_scheme(_scheme, load_from_data_only, force=True)
