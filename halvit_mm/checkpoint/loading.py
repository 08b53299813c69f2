"""The loader of everything here that loads weights into a model.

It says what was not loaded and what the file has beyond the model, and it
refuses what would change the output without a word.
"""

import logging
import re
from collections import Counter
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from .coverage import Comparison, compare, describe_missing, likely_prefixes
from .key_maps import to_ours
from .log import say
from .reading import read_weights

__all__ = ['load_weights']

StateDict = Dict[str, Tensor]

_MIN_COVERAGE = 0.95


def load_weights(
    module: nn.Module,
    path: str,
    *,
    prefix: str = '',
    origin: Optional[str] = None,
    min_coverage: float = _MIN_COVERAGE,
    ignore: Sequence[str] = (),
    key: Optional[str] = None,
    source_grid: Optional[Tuple[int, int]] = None,
    map_location: Optional[str] = None,
) -> float:
    """Load the weights of a file into a model or a part of one.

    Each submodule with a method ``adapt_state_dict(state_dict, prefix)`` may
    fit the weights to itself first: position embeddings are interpolated,
    what older files lack is filled in.

    Args:
        module: A model, a backbone, or any other module.
        path: File to read, see :func:`.reading.read_weights`.
        prefix: What the module's names start with in the file. Where no name
            does, the names are searched for behind another beginning, such
            as none or ``model.``.
        origin: Project whose names the file has, one of
            :data:`.key_maps.KEY_MAPS`; None for mmpretrain's or our own.
        min_coverage: Least share of the module's bytes, 0 to 1. Norms,
            statistics, position embeddings and biases may be missing only
            where less than the default is asked.
        ignore: Regular expressions, each for the beginning of names, without
            the prefix, that are not loaded and may be missing or unknown.
        key: Entry of the file that holds the weights, where there are
            several.
        source_grid: Height and width, in tokens, of the file's position
            embeddings, where their number does not tell.
        map_location: Device to read to; weights are copied to the module's
            own device in any case.

    Returns:
        The share of the module's bytes that was loaded, 0 to 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or holds more than data; if it
            covers less than ``min_coverage``, lacks what the module needs, or
            has what the module does not know, naming the differences; if a
            weight has another shape; or if a name is not known of ``origin``.
    """
    weights = read_weights(path, key, map_location)
    found, notes = weights.state_dict, list(weights.notes)
    if origin is not None:
        found = to_ours(found, origin)
    found = _behind_prefix(module, found, prefix, notes)
    for note in notes:
        say(f'{path}: {note}')
    found = {
        name: tensor
        for name, tensor in found.items()
        if not any(re.match(pattern, name) for pattern in ignore)
    }
    try:
        _adapt(module, found, source_grid)
    except (AssertionError, ValueError) as error:
        raise ValueError(f'{path}: {error}') from error
    comparison = compare(module, found, ignore)
    _check(comparison, module, path, prefix, min_coverage, found)
    own = module.state_dict()
    module.load_state_dict(
        {k: v for k, v in found.items() if k in own}, strict=False
    )
    _report(comparison, module, path)
    return comparison.coverage


def _behind_prefix(
    module: nn.Module, found: StateDict, prefix: str, notes: List[str]
) -> StateDict:
    """The weights of a module, under its own names."""
    prefix = prefix and prefix.rstrip('.') + '.'
    if not any(name.startswith(prefix) for name in found) or not prefix:
        candidates = likely_prefixes(module.state_dict(), found)
        if not candidates or '' in candidates:
            return dict(found)  # the file is the module's own
        if len(candidates) > 1:
            return dict(found)  # which one is meant, the error asks
        prefix = candidates[0]
        notes.append(f'took the weights whose names begin with {prefix!r}')
    others = Counter(
        name.split('.')[0] for name in found if not name.startswith(prefix)
    )
    if others:
        names = ', '.join(f'{k} ({count})' for k, count in others.items())
        notes.append(f'left out what is not of {prefix!r}: {names}')
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in found.items()
        if name.startswith(prefix)
    }


def _adapt(module: nn.Module, found: StateDict, source_grid) -> None:
    """Let each submodule fit the weights to itself, in place."""
    marked = source_grid is None
    for path, part in module.named_modules():
        prefix = f'{path}.' if path else ''
        # Of the class: a wrapper may pass attributes of its content on.
        if not hasattr(type(part), 'adapt_state_dict'):
            # The hosts' ViTs do it in the hooks of load_state_dict.
            for hook in part._load_state_dict_pre_hooks.values():
                hook(found, prefix, {}, True, [], [], [])
            continue
        if source_grid is not None and f'{prefix}pos_embed' in found:
            found[f'{prefix}pos_embed_grid'] = torch.tensor(source_grid)
            marked = True
        part.adapt_state_dict(found, prefix)
    if not marked:
        raise ValueError(
            f'source_grid={source_grid}: there are no position embeddings '
            f'that {type(module).__name__} could fit from that grid'
        )


def _check(
    comparison: Comparison,
    module: nn.Module,
    path: str,
    prefix: str,
    min_coverage: float,
    found: StateDict,
) -> None:
    needed = comparison.needed if min_coverage >= _MIN_COVERAGE else []
    if (
        comparison.coverage >= min_coverage
        and not comparison.misfits
        and not comparison.unknown
        and not needed
    ):
        return
    lines = [
        f'{path} does not fit {type(module).__name__}: it covers '
        f'{comparison.coverage:.1%} of its bytes (at least '
        f'{min_coverage:.0%} are asked) and is of another architecture or '
        'incomplete.',
        *comparison.lines(),
    ]
    others = likely_prefixes(module.state_dict(), found)
    if others and '' not in others:
        lines.append(
            f'The module is in the file behind {others[:3]}: name one of '
            f'them with prefix=..., instead of {prefix!r}.'
        )
    elif comparison.coverage >= min_coverage and not comparison.misfits:
        lines.append(
            'These change what the model computes. If it is meant, name them '
            f'with ignore=[{(comparison.unknown or needed)[0]!r}, ...].'
        )
    raise ValueError('\n'.join(lines))


def _report(comparison: Comparison, module: nn.Module, path: str) -> None:
    name = type(module).__name__
    say(f'{path}: loaded {comparison.coverage:.1%} of the bytes of {name}')
    if comparison.harmless:
        names = comparison.harmless
        say(f'{path}: not needed by {name} ({len(names)}): {names[:9]}')
    if comparison.missing:
        say(
            f'{path}: {describe_missing(comparison.missing)}; they keep '
            'their present values',
            logging.WARNING,
        )
