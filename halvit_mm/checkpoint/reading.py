"""Weights out of a file, whatever its author has wrapped around them."""

import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from torch import Tensor

from .classes import classes_of
from .fetching import local_copy
from .files import load_content
from .header import HEADER_KEY, Header
from .log import say
from .packing import unpack
from .untrusted import named_faults

StateDict = Dict[str, Tensor]

#: Entries of a checkpoint that hold weights -> what these are. The first one
#: that is there is taken.
_ENTRIES = {
    **dict.fromkeys(('state_dict', 'model', 'module'), 'online'),
    'teacher': 'EMA',
    'student': 'online',
    **dict.fromkeys(('model_state_dict', 'model_state', 'net'), 'online'),
    **dict.fromkeys(('network', 'params', 'weights'), 'online'),
    **dict.fromkeys(('state_dict_ema', 'model_ema', 'ema_state_dict'), 'EMA'),
    **dict.fromkeys(('ema', 'ema_model', 'params_ema'), 'EMA'),
}
_USUAL = {'state_dict', 'model'}  # taken without a word
#: What torch.compile, FSDP and activation checkpointing put into names.
_WRAPPERS = re.compile(
    r'(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)


class Weights(NamedTuple):
    """What was read of a file.

    Attributes:
        state_dict: Name -> tensor.
        header: Of a file of ours.
        classes: Names of the classes that its model is for, if it tells.
    """

    state_dict: StateDict
    header: Optional[Header]
    classes: Optional[Tuple[str, ...]]


def read_weights(
    path: str, key: Optional[str] = None, map_location: Optional[str] = None
) -> Weights:
    """Read the weights of a file, never executing what it holds.

    What is chosen or left out of it is logged.

    Args:
        path: A file of safetensors, compressed or not, or of ``torch.save``,
            or an address, see :func:`.local_copy`.
        key: Entry that holds the weights, where there are several, such as
            ``'state_dict_ema'``.
        map_location: Device to read to, by default the CPU.

    Returns:
        The weights, under names without ``module.`` and the like.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, holds more than data, or no
            weights, or several entries of them with names that are not known
            here, or cannot be fetched.
    """
    path = local_copy(str(path))
    content, header = load_content(path, map_location or 'cpu')
    classes = classes_of(content, header)
    content = _entry_of(content, key, path)
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds no weights but {type(content)}')
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise ValueError(f'{path} holds no weights; keys: {list(content)[:9]}')
    others = [k for k in content if k not in tensors and k != HEADER_KEY]
    if others:
        say(f'{path}: no tensors, left out ({len(others)}): {others[:5]}')
    if header is not None and header['format'] == 'fips':
        with named_faults(path):
            tensors = unpack(tensors, header.get('shapes') or {})
    return Weights(_without_wrappers(tensors, path), header, classes)


def read_state_dict(path: str) -> StateDict:
    """Read the weights of a file to the CPU, as :func:`read_weights` does."""
    return read_weights(path).state_dict


def _entry_of(content: Any, key: Optional[str], path: str) -> Any:
    """The part of a checkpoint that holds weights."""
    entries = list(content)[:9] if isinstance(content, dict) else []
    while isinstance(content, dict):
        if key is not None and key in content:
            content, key = content[key], None
            continue
        here = _candidates(content, path)
        if not here:
            break
        name, *others = here
        if others or name not in _USUAL:
            note = f'took {name!r} ({here[name]} weights)'
            for other in others:
                note += f', not {other!r} ({here[other]} weights; '
                note += f'key={other!r})'
            say(f'{path}: {note}')
        content = content[name]
    if key is not None:
        raise ValueError(f'{path} has no entry {key!r}, but {entries}')
    return content


def _candidates(content: Dict, path: str) -> Dict[str, str]:
    """Entries with weights -> what these are; the one to take is the first."""
    with_weights = [k for k in content if _has_weights(content[k])]
    here = {k: kind for k, kind in _ENTRIES.items() if k in with_weights}
    if 'state_dict' in here and 'ema_state_dict' in here:
        # mmengine's EMAHook exchanges them when it saves.
        here.update(state_dict='EMA', ema_state_dict='online')
    others = {k: 'other' for k in with_weights if k not in here}
    if here or any(isinstance(value, Tensor) for value in content.values()):
        return here and {**here, **others}  # else it holds weights itself
    if len(others) > 1:
        raise ValueError(
            f'{path} has weights in {list(others)[:9]}: name one of these '
            'entries with key=...'
        )
    return others


def _has_weights(value: Any) -> bool:
    """Whether it holds tensors by name, or an entry that does."""
    return isinstance(value, dict) and any(
        isinstance(inner, Tensor) or (name in _ENTRIES and _has_weights(inner))
        for name, inner in value.items()
    )


def _without_wrappers(tensors: StateDict, path: str) -> StateDict:
    found, taken_off = {}, set()
    for name, tensor in tensors.items():
        parts = {match.group() for match in _WRAPPERS.finditer(name)}
        new = _WRAPPERS.sub('', name)
        if new.startswith('module.'):
            parts.add('module.')
            new = new.removeprefix('module.')
        if parts and (new in found or new in tensors):
            new = name  # the file is of two models
        elif parts:
            taken_off |= parts
        found[new] = tensor
    if taken_off:
        say(f'{path}: names without {", ".join(sorted(taken_off))}')
    return found
