"""Checks of the options that override a config.

mmengine takes any key, so that a misspelt one would change nothing.
"""

import copy
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from mmengine.config import Config

from .known_keys import KEYS_OF_BUILDERS, KNOWN_KEYS, known_keys


def check_options(cfg: Config, options: Dict[str, Any]) -> None:
    """Check that each option changes something that is read.

    What is known at a place tells :func:`.known_keys.known_keys`.

    Args:
        cfg: The config as its file has it.
        options: Dotted key -> value.

    Raises:
        ValueError: If a key is unknown, with the nearest known one; if it is
            only a variable of the file; or if a string stands for a list of
            classes.
    """
    content = cfg.to_dict()
    tree: dict = {}
    for key, value in copy.deepcopy(options).items():
        *parents, last = key.split('.')
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f'option {key}: {part} is set as well')
        node[last] = value
    scope = {'default_scope': 'mmengine', **content, **tree}['default_scope']
    for key in tree:
        if key not in KNOWN_KEYS:
            raise ValueError(_unread(key, content, scope))
    classes = tree.get('classes') or 'auto'
    if classes != 'auto' and not isinstance(classes, (list, tuple)):
        raise ValueError(_no_list('classes', classes))
    for key, value in tree.items():
        if isinstance(value, dict):
            _check(content.get(key, {}), value, (key,), scope)


def _check(node, option: dict, path: Tuple[str, ...], scope) -> None:
    """Check what is merged into a node of the config, and all below it."""
    place = '.'.join(path)
    if option.get('_delete_'):
        node = {}
    if not isinstance(node, (dict, list)):
        raise ValueError(
            f'option {place}.{next(iter(option))}: {place} is {node!r} in the '
            'config and has no keys; set it as a whole'
        )
    known = known_keys(node, option, path, scope)
    for key, value in option.items():
        where = f'{place}.{key}'
        if key not in known:
            near = get_close_matches(key, known, 1)
            message = _unknown(where, [f'{place}.{name}' for name in near])
            others = ', '.join(sorted(known - KEYS_OF_BUILDERS))
            raise ValueError(
                message if near else f'{message}; known: {others}'
            )
        if isinstance(value, dict):
            is_list = isinstance(node, list)
            child = node[int(key)] if is_list else node.get(key, {})
            _check(child, value, (*path, key), scope)
        elif isinstance(node, list):
            raise ValueError(f'option {where}: set {place} as a whole')
        elif where.endswith('.metainfo.classes') and isinstance(value, str):
            if not Path(value).is_file():  # which has a name a line
                raise ValueError(_no_list(where, value))


def _unread(key: str, content: dict, scope: str) -> str:
    """Why a top-level key changes nothing, and which one does."""
    read = {k: v for k, v in content.items() if k in KNOWN_KEYS}
    places = dict(_places(read))
    names: Dict[str, List[str]] = {}
    for place in places:
        names.setdefault(place.rpartition('.')[2], []).append(place)
    if key not in content:
        near = names.get(key) or get_close_matches(key, KNOWN_KEYS, 1)
        near = near or [
            f'{place}.{key}'
            for place, node in places.items()
            if isinstance(node, dict)
            and key in known_keys(node, {}, tuple(place.split('.')), scope)
        ]
        for name in get_close_matches(key, names, 1):
            near = near or names[name]
        return _unknown(key, near)
    value, same = content[key], names.get(key, [])
    if isinstance(value, (str, dict, list, tuple)) and value:
        same = same or [p for p, other in places.items() if other == value]
    effect = f'set {_either(same)}' if same else 'nothing reads it'
    return f'option {key}: only a variable of the config file; {effect}'


def _places(node, prefix: str = '') -> Iterator[Tuple[str, Any]]:
    """All dotted keys of a nested config, with their values."""
    is_dict = isinstance(node, dict)
    for key, child in node.items() if is_dict else enumerate(node):
        yield f'{prefix}{key}', child
        if isinstance(child, (dict, list, tuple)):
            yield from _places(child, f'{prefix}{key}.')


def _either(places: List[str]) -> str:
    return ' or '.join(places[:3])


def _unknown(key: str, near: List[str]) -> str:
    hint = f'; did you mean {_either(near)}?' if near else ''
    return f'option {key}: unknown key{hint}'


def _no_list(key: str, value) -> str:
    auto = 'auto or ' if key == 'classes' else ''
    return (
        f'option {key}={value}: the names of the classes are {auto}a list, '
        f"'{key}=[{value}]'"
    )
