"""What a file has, what a module has, and whether one does for the other."""

import re
from collections import Counter
from typing import Dict, List, NamedTuple, Sequence

from torch import Tensor, nn

StateDict = Dict[str, Tensor]

#: Parts that a file may have and a model need not: they serve training, or
#: another task, and what the model computes does not depend on them. ``ln2``
#: is the norm behind the average of a ViT that was trained as a classifier.
_BESIDE = re.compile(
    r'(^ln2|(?<![^.])(heads?|\w+_head|head_dist|classifier|fc|decoder\w*'
    r'|mask_token|data_preprocessor|ema_\w+|steps|num_batches_tracked))(\.|$)'
)


class Comparison(NamedTuple):
    """How the weights of a file and those of a module differ."""

    coverage: float  # share of the module's bytes that the file has, 0 to 1
    misfits: Dict[str, str]  # names of weights of another shape -> both shapes
    missing: Dict[str, str]  # names that the file lacks -> kind of weight
    needed: List[str]  # those of them without which the output is wrong
    unknown: List[str]  # names of the file that would change the output
    harmless: List[str]  # other names of the file that the module lacks

    def describe_missing(self) -> str:
        """Name the first missing weights, and count those of each kind."""
        kinds = Counter(self.missing.values())
        counts = ', '.join(f'{kind}: {count}' for kind, count in kinds.items())
        names = list(self.missing)
        return f'missing ({len(names)}): {names[:3]} ({counts})'

    def lines(self) -> List[str]:
        """Describe the differences, for an error."""
        misfits, unknown = list(self.misfits.values()), self.unknown
        found = []
        if misfits:
            found.append(f'other shapes ({len(misfits)}): {misfits[:3]}')
        if self.missing:
            found.append(self.describe_missing())
        if unknown:
            found.append(
                f'names are not known here ({len(unknown)}): {unknown[:3]}'
            )
        return found


def compare(
    module: nn.Module, found: StateDict, ignore: Sequence[str]
) -> Comparison:
    """Compare the weights of a file with those of a module.

    Names whose beginning matches one of the regular expressions ``ignore``
    may differ.
    """

    def counts(name: str) -> bool:
        return not any(re.match(pattern, name) for pattern in ignore)

    own = module.state_dict()
    misfits = {
        k: f'{k} is {tuple(tensor.shape)}, here {tuple(own[k].shape)}'
        for k, tensor in found.items()
        if k in own and tensor.shape != own[k].shape
    }
    missing = {
        name: _kind_of(module, name)
        for name in own
        if name not in found
        and counts(name)
        and not name.endswith('num_batches_tracked')
    }
    needed = [
        name
        for name, kind in missing.items()
        if kind != 'weights' or own[name].ndim < 2
    ]
    more = [name for name in found if name not in own]
    unknown = [k for k in more if counts(k) and not _is_beside(k, own)]
    harmless = [name for name in more if name not in unknown]
    sizes = {
        name: tensor.numel() * tensor.element_size()
        for name, tensor in own.items()
        if tensor.is_floating_point() and counts(name)  # no marks or counters
    }
    loaded = sum(sizes.get(k, 0) for k in found if k not in misfits)
    coverage = loaded / max(sum(sizes.values()), 1)
    return Comparison(coverage, misfits, missing, needed, unknown, harmless)


def likely_prefixes(own: Sequence[str], found: Sequence[str]) -> List[str]:
    """Beginnings of names behind which a file has a module.

    Those with at least half of the module's ``own`` names, most names first.
    """
    own, counts = set(own), Counter()
    for name in found:
        parts = name.split('.')
        for i in range(len(parts)):
            if '.'.join(parts[i:]) in own:
                counts[''.join(f'{part}.' for part in parts[:i])] += 1
    return [p for p, count in counts.most_common() if 2 * count >= len(own)]


def _is_beside(name: str, own: StateDict) -> bool:
    """Whether a name is of a part that the model does without."""
    return any(
        not any(other.startswith(name[: match.end()]) for other in own)
        for match in _BESIDE.finditer(name)
    )


def _kind_of(module: nn.Module, name: str) -> str:
    path, _, leaf = name.rpartition('.')
    try:
        owner = module.get_submodule(path)
    except AttributeError:  # a name that a state-dict hook has changed
        owner = module
    if leaf.startswith('running_'):
        return 'statistics'
    if 'pos_embed' in leaf or 'position' in leaf:
        return 'position embeddings'
    if 'norm' in type(owner).__name__.lower():
        return 'norms'
    return 'biases' if leaf.endswith('bias') else 'weights'
