"""The loader of everything here that loads weights into a model.

It says what was not loaded and what the file has beyond the model, and it
refuses what would change the output without a word.
"""

import logging
import re
from collections import Counter
from typing import Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from .classes import CLASS_LAYERS, describe_classes
from .conversion import to_ours
from .coverage import Comparison, check_values, compare, likely_prefixes
from .log import say
from .origins import find_origin, reasons_for
from .reading import read_weights

StateDict = Dict[str, Tensor]
#: Beside names that are ours, these are mmpretrain's, and are translated.
_TRANSLATED = re.compile(r'(dist_token|gamma[12]\.weight)$')


def load_weights(
    module: nn.Module,
    path: str,
    *,
    prefix: str = '',
    origin: Optional[str] = None,
    min_coverage: float = 1.0,
    ignore: Sequence[str] = (),
    key: Optional[str] = None,
    source_grid: Optional[Tuple[int, int]] = None,
    map_location: Optional[str] = None,
    classes: Optional[Sequence[str]] = None,
    new_classes: bool = False,
) -> float:
    """Load the weights of a file into a model or a part of one.

    Each submodule with a method ``adapt_state_dict(state_dict, prefix, own)``
    may fit the weights to itself first: position embeddings are interpolated,
    what older files lack is filled in. ``own`` says whether the module is part
    of a larger one, whose whole file it is.

    Args:
        module: A model, a backbone, or any other module.
        path: File to read, see :func:`.reading.read_weights`.
        prefix: What the module's names start with in the file. Where no name
            does, the names are searched for behind another beginning, such
            as none or ``model.``.
        origin: Project whose names the file has, one of
            :data:`.key_maps.KEY_MAPS`; by default told from the names, where
            these are not the module's.
        min_coverage: Least share of the module's bytes, 0 to 1. Nothing may
            be missing unless less than the default is asked.
        ignore: Regular expressions, each for the beginning of names, without
            the prefix, that are not loaded and may be missing or unknown.
        key: Entry of the file that holds the weights, if it has several.
        source_grid: Height and width, in tokens, of the file's position
            embeddings, where their number does not tell.
        map_location: Device to read to; weights are copied to the module's
            own device in any case.
        classes: Names of the classes that the module is for; a file of others
            is refused.
        new_classes: Whether it is accepted, without the layers that have an
            output for each class, which is said.

    Returns:
        The share of the module's bytes that was loaded, 0 to 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or holds more than data, has
            weights that are quantised or no numbers, or does not fit the
            module; the message names the differences.
    """
    found, _, their_classes = read_weights(path, key, map_location)
    if classes and not their_classes:
        say(
            f'{path} does not name its classes: they are taken to be '
            f'{", ".join(classes[:9])}{", ..." * (len(classes) > 9)}'
        )
    if classes and their_classes:
        names = (f'the checkpoint {path}', 'the data set')
        differ = describe_classes(their_classes, classes, names)
        if differ and not new_classes:
            raise ValueError(
                f'{differ}. With `--cfg-options classes=auto` a test takes '
                'those of the checkpoint'
            )
        if differ:
            say(f'layers for each class are not loaded: {differ}')
            ignore = (*ignore, CLASS_LAYERS)
    found = {
        name: tensor
        for name, tensor in found.items()
        if not any(re.match(pattern, name) for pattern in ignore)
    }
    found = _under_our_names(module, found, origin, path)
    found = {
        name: tensor
        for name, tensor in _behind_prefix(module, found, prefix, path).items()
        if not any(re.match(pattern, name) for pattern in ignore)
    }
    there = set(found)
    try:
        _adapt(module, found, source_grid)
        check_values(module, found)
    except (AssertionError, ValueError) as error:
        raise ValueError(f'{path}: {error}') from error
    # Marks may be filled in, weights are the file's or missing.
    theirs = {
        name: tensor
        for name, tensor in found.items()
        if name in there or not tensor.is_floating_point()
    }
    comparison = compare(module, theirs, ignore)
    missing = list(comparison.missing) if min_coverage >= 1.0 else []
    changing = missing + comparison.unknown
    if changing or comparison.misfits or comparison.coverage < min_coverage:
        lines = [
            f'{path} does not fit {type(module).__name__}: it covers '
            f'{comparison.coverage:.1%} of its bytes (at least '
            f'{min_coverage:.0%} are asked) and is of another architecture or '
            'incomplete.',
            *comparison.lines(),
        ]
        others = likely_prefixes(module.state_dict(), found)
        reasons = reasons_for(found)
        lines += reasons
        if 'ln1.weight' in missing and 'ln2.weight' in comparison.harmless:
            lines.append(
                'The last norm of the file is behind the average of a '
                'classifier: final_norm=False builds the backbone without it.'
            )
        elif others and '' not in others:
            lines.append(
                f'The module is in the file behind {others[:3]}: name one of '
                f'them with prefix=..., instead of {prefix!r}.'
            )
        elif reasons or comparison.misfits:
            pass
        elif changing and comparison.coverage > 0.5:
            lines.append(
                'These change what the model computes. If it is meant, name '
                f'them with ignore=[{changing[0]!r}, ...].'
            )
        raise ValueError('\n'.join(lines))
    for name in comparison.harmless:
        del found[name]
    module.load_state_dict(found, strict=False)
    _report(comparison, module, path)
    return comparison.coverage


def _under_our_names(
    module: nn.Module, found: StateDict, origin: Optional[str], path: str
) -> StateDict:
    """The weights of another project's ViT under our names."""
    try:
        if origin is None:
            own = module.state_dict()
            foreign = any(map(_TRANSLATED.search, found))
            if any(map(_TRANSLATED.search, own)) or (
                likely_prefixes(own, found) and not foreign
            ):
                return found
            if foreign and not any(k.startswith('backbone.') for k in found):
                found = {f'backbone.{k}': v for k, v in found.items()}
            origin = find_origin(found)
            if origin is None:
                return found
            say(f'{path}: these are the names of {origin}')
        return to_ours(found, origin)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def _behind_prefix(
    module: nn.Module, found: StateDict, prefix: str, path: str
) -> StateDict:
    """The weights of a module, under its own names."""
    prefix = prefix and prefix.rstrip('.') + '.'
    if not prefix or not any(name.startswith(prefix) for name in found):
        candidates = likely_prefixes(module.state_dict(), found)
        if len(candidates) != 1 or candidates == ['']:
            return found  # the module's own, or an error asks which one
        prefix = candidates[0]
        say(f'{path}: took the weights whose names begin with {prefix!r}')
    others = Counter(
        name.split('.')[0] for name in found if not name.startswith(prefix)
    )
    if others:
        names = ', '.join(f'{k} ({count})' for k, count in others.items())
        say(f'{path}: left out what is not of {prefix!r}: {names}')
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
        # The file of a whole model is one of this model; a backbone alone may
        # be fitted from another.
        part.adapt_state_dict(found, prefix, own=path != '')
    if not marked:
        raise ValueError(
            f'source_grid={source_grid}: there are no position embeddings '
            f'that {type(module).__name__} could fit from that grid'
        )


def _report(comparison: Comparison, module: nn.Module, path: str) -> None:
    name, harmless = type(module).__name__, comparison.harmless
    say(f'{path}: loaded {comparison.coverage:.1%} of the bytes of {name}')
    if harmless:
        say(f'{path}: not needed by {name} ({len(harmless)}): {harmless[:9]}')
    if comparison.missing:
        say(
            f'{path}: {comparison.describe_missing()}; they keep their '
            'present values',
            logging.WARNING,
        )
