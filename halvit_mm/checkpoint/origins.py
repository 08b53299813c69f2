"""From which project weights are, told from their names."""

import re
from collections import Counter
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from .key_maps import KEY_MAPS, NOT_HERE, Entry, RowScale, Table, Third

_UNKNOWN = '?'  # no name of a weight


class Match(NamedTuple):
    """Names of a file and a table."""

    entries: Dict[str, Entry]  # name of the file -> what the table says
    beside: List[str]  # names without the prefix that the table lacks
    unknown: List[str]  # other names that the table lacks


def find_origin(names: Iterable[str]) -> Optional[str]:
    """Tell from which project weights are.

    Args:
        names: Of the weights.

    Returns:
        One of :data:`.KEY_MAPS`, or None where no project has as many as half
        of the names.

    Raises:
        ValueError: If a project has most of the names, but not all.
    """
    names = list(names)
    matches = {k: match_names(names, table) for k, table in KEY_MAPS.items()}
    origin = max(matches, key=lambda k: len(matches[k].entries))
    match = matches[origin]
    foreign = not origin.startswith('mmpretrain') or not match.unknown
    if 2 * len(match.entries) < len(names) or not foreign:
        return None
    refuse_names(match.unknown, f'the table of {origin}, the closest one')
    return origin


def match_names(names: Iterable[str], table: Table) -> Match:
    """Look names up, behind the beginning that most of them have."""
    names, prefixes = list(names), Counter()
    for name in names:
        parts = name.split('.')
        for i in range(len(parts)):
            if _look_up('.'.join(parts[i:]), table) != _UNKNOWN:
                prefixes[''.join(f'{part}.' for part in parts[:i])] += 1
                break
    prefix = prefixes.most_common(1)[0][0] if prefixes else ''
    match = Match({}, [], [])
    for name in names:
        entry = _look_up(name.removeprefix(prefix), table)
        if entry != _UNKNOWN:
            match.entries[name] = entry
        elif name.startswith(prefix):
            match.unknown.append(name)
        else:
            match.beside.append(name)
    return match


def _look_up(name: str, table: Table) -> Entry:
    """What a table says of a name, with the index of its layer."""
    pattern, index = name_pattern(name)
    entry = table.get(name, table.get(pattern, _UNKNOWN))
    if isinstance(entry, str):
        return entry.replace('{}', index)
    if isinstance(entry, (Third, RowScale)):
        return entry._replace(name=entry.name.replace('{}', index))
    return entry


def name_pattern(name: str) -> Tuple[str, str]:
    """Split a name: without the index of its layer, and the index.

    DINOv2 trains chunks of layers: the layer of ``blocks.1.7.`` is 7.
    """
    index = re.search(r'\.(?:\d+\.)?(\d+)\.', name)
    if not index:
        return name, ''
    return name.replace(index.group(), '.{}.', 1), index.group(1)


def refuse_names(unknown: List[str], where: str) -> None:
    """Raise a ValueError that names them, and why, if there are any."""
    if unknown:
        reasons = reasons_for(unknown) or [
            f'if they are not needed, ignore=[{unknown[0]!r}, ...]'
        ]
        raise ValueError(
            f'{len(unknown)} names are not in {where}: {unknown[:3]}; '
            + '; '.join(reasons)
        )


def reasons_for(names: Iterable[str]) -> List[str]:
    """Say why names are in no table, as far as is known."""
    return [
        reason
        for parts, reason in NOT_HERE.items()
        if any(part in name for part in parts for name in names)
    ]
