"""Weights out of a file, whatever its author has wrapped around them."""

import re
from typing import Any, Dict, NamedTuple, Optional

from torch import Tensor

from .files import load_content
from .header import HEADER_KEY, Header
from .log import say
from .packing import unpack
from .untrusted import data_only

StateDict = Dict[str, Tensor]

#: Entries of a checkpoint that hold weights -> what these are. The first one
#: that is there is taken.
_ENTRIES = {
    'state_dict': 'online',
    'model': 'online',
    'module': 'online',
    'teacher': 'EMA',
    'student': 'online',
    'state_dict_ema': 'EMA',
    'model_ema': 'EMA',
    'ema_state_dict': 'EMA',
}
_USUAL = {'state_dict', 'model'}  # taken without a word
#: What torch.compile, FSDP and activation checkpointing put into names.
_WRAPPERS = re.compile(
    r'(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)


class Weights(NamedTuple):
    """What was read: name -> tensor, and the header of a file of ours."""

    state_dict: StateDict
    header: Optional[Header]


def read_weights(
    path: str, key: Optional[str] = None, map_location: Optional[str] = None
) -> Weights:
    """Read the weights of a file, never executing what it holds.

    What is chosen or left out of it is logged.

    Args:
        path: A file of safetensors, compressed or not, or of ``torch.save``,
            or an address with a scheme (``https://``, ``torchvision://``)
            that the host knows.
        key: Entry that holds the weights, where there are several, such as
            ``'state_dict_ema'``.
        map_location: Device to read to, by default the CPU.

    Returns:
        The weights, under names without ``module.`` and the like.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, holds more than data, or no
            weights, or cannot be fetched.
    """
    path, device, header = str(path), map_location or 'cpu', None
    if '://' in path:
        content = _fetch(path, device)
    else:
        content, header = load_content(path, device)
    content = _entry_of(content, key, path)
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds no weights but {type(content)}')
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(f'{path} holds no weights; keys: {list(content)[:9]}')
    others = [k for k in content if k not in tensors and k != HEADER_KEY]
    if others:
        say(f'{path}: no tensors, left out ({len(others)}): {others[:5]}')
    if header is not None and header['format'] == 'fips':
        tensors = unpack(tensors, header.get('shapes') or {})
    return Weights(_without_wrappers(tensors, path), header)


def read_state_dict(path: str) -> StateDict:
    """Read the weights of a file to the CPU, as :func:`read_weights` does."""
    return read_weights(path).state_dict


def _entry_of(content: Any, key: Optional[str], path: str) -> Any:
    """The part of a checkpoint that holds weights."""
    if key is not None:
        entries = content if isinstance(content, dict) else {}
        if key not in entries:
            raise ValueError(
                f'{path} has no entry {key!r}, but {list(entries)[:9]}'
            )
        return entries[key]
    found = {}
    while isinstance(content, dict):
        here = {
            name: kind
            for name, kind in _ENTRIES.items()
            if isinstance(content.get(name), dict) and content[name]
        }
        if not here:
            break
        if 'state_dict' in here and 'ema_state_dict' in here:
            # mmengine's EMAHook exchanges them when it saves.
            here.update(state_dict='EMA', ema_state_dict='online')
        found = found or here
        content = content[next(iter(here))]
    if found and (len(found) > 1 or not found.keys() & _USUAL):
        (taken, kind), *others = found.items()
        note = f'took {taken!r} ({kind} weights)'
        for name, other in others:
            note += f', not {name!r} ({other} weights; key={name!r})'
        say(f'{path}: {note}')
    return content


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


def _fetch(path: str, device: str) -> Any:
    """Let the host download a checkpoint and read it, as data only."""
    from mmengine.runner import CheckpointLoader

    if path.endswith('.safetensors'):
        raise ValueError(
            f'{path}: the host downloads files of torch.save only; download '
            'it yourself and give the name of the file'
        )
    try:
        with data_only(path):
            return CheckpointLoader.load_checkpoint(path, map_location=device)
    except (EOFError, ImportError, LookupError, OSError, RuntimeError) as e:
        raise ValueError(
            f'{path} cannot be fetched ({type(e).__name__}: {e}): '
            'download it by another way and give the name of the file'
        ) from e
