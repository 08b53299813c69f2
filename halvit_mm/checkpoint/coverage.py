"""What a file has, what a module has, and whether one does for the other."""

import re
from collections import Counter
from typing import Dict, List, NamedTuple, Sequence

from torch import Tensor, nn

StateDict = Dict[str, Tensor]

#: Parts of a whole model that a file may have and a module need not, by the
#: beginning of their names: they serve training, or another task, and what the
#: module computes does not depend on them. ``ln2`` is the norm behind the
#: average of a ViT that was trained as a classifier.
_BESIDE = re.compile(
    r'(ln2|heads?|\w+_head|head_dist|classifier|fc|decoder\w*|mask_token'
    r'|data_preprocessor|ema_\w+|steps)(\.|$)'
)
_COUNTER = 'num_batches_tracked'  # of BatchNorm; nothing depends on it


class Comparison(NamedTuple):
    """How the weights of a file and those of a module differ."""

    coverage: float  # share of the module's bytes that the file has, 0 to 1
    misfits: Dict[str, str]  # names of weights of another shape -> both shapes
    missing: Dict[str, str]  # names that the file lacks -> kind of weight
    unknown: List[str]  # names of the file that would change the output
    harmless: List[str]  # other names of the file that the module lacks

    def describe_missing(self) -> str:
        """Name the first missing weights, and count those of each kind."""
        kinds = Counter(self.missing.values())
        counts = ', '.join(f'{kind}: {count}' for kind, count in kinds.items())
        names = list(self.missing)
        return f'missing ({len(names)}): {names[:9]} ({counts})'

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
        if name not in found and counts(name) and not name.endswith(_COUNTER)
    }
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
    return Comparison(coverage, misfits, missing, unknown, harmless)


def check_values(module: nn.Module, found: StateDict) -> None:
    """Check that a file's numbers can be those of a module.

    Args:
        module: What they are for.
        found: Its weights, by its own names; other names are not looked at.

    Raises:
        ValueError: For weights with NaN or infinity, or stored as integers or
            in 8 bits where the module computes in floating point.
    """
    broken, quantised = [], []
    for name, own in module.state_dict().items():
        tensor = found.get(name)
        if tensor is None or not own.is_floating_point():
            continue
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            quantised.append(f'{name} ({tensor.dtype}, here {own.dtype})')
        elif not tensor.isfinite().all():
            broken.append(name)
    if quantised:
        raise ValueError(
            f'quantised weights ({len(quantised)}): {quantised[:9]}; without '
            'their scales these numbers are not the weights: take a file that '
            'is not quantised'
        )
    if broken:
        raise ValueError(
            f'NaN or infinity in weights ({len(broken)}): {broken[:9]}; the '
            'training that wrote them diverged: take an earlier checkpoint'
        )


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
    """Whether a name is of a part that the module does without."""
    if name.split('.')[-1] == _COUNTER:
        return True
    part = _BESIDE.match(name)
    return bool(part) and not any(k.startswith(part.group()) for k in own)


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
