"""Which matrices of a model are factorised together.

Shapes: d the short side of a weight, which a group's base spans; p its long
side, one column of d numbers per neuron.
"""

import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Target(NamedTuple):
    """One weight that is factorised.

    Attributes:
        name: Full name of the module that owns it.
        module: An :class:`torch.nn.Linear`, tied or not.
        transposed: Whether its columns of d numbers are the rows of
            ``module.weight``, as in a matrix that reads d numbers.
    """

    name: str
    module: nn.Linear
    transposed: bool

    @property
    def dim(self) -> int:
        """Short side d."""
        return min(self.module.weight.shape)

    @property
    def width(self) -> int:
        """Long side p."""
        return max(self.module.weight.shape)

    def columns(self) -> Tensor:
        """The weight as its group sees it, (d, p)."""
        weight = self.module.weight.detach()
        return weight.t() if self.transposed else weight


class Unit(NamedTuple):
    """A module whose output is to stay what it was: an MLP, an attention.

    Attributes:
        name: Full name of the module.
        module: The module, which is called once per forward pass.
        targets: The weights inside.
    """

    name: str
    module: nn.Module
    targets: List[Target]


class Group(NamedTuple):
    """Units, in the order of the model, whose weights share one base."""

    name: str
    units: List[Unit]

    @property
    def targets(self) -> List[Target]:
        """The weights of all units."""
        return [target for unit in self.units for target in unit.targets]

    @property
    def dim(self) -> int:
        """Short side d of all targets."""
        return self.targets[0].dim

    @property
    def width(self) -> int:
        """Sum of p."""
        return sum(target.width for target in self.targets)


def find_groups(
    model: nn.Module,
    groups: Sequence[str],
    square: Optional[Dict[str, str]] = None,
) -> List[Group]:
    """Find the weights of each group.

    FiPS, Sec. 2.2: weights are concatenated along their long side, so that
    the base spans the short one.

    Args:
        model: Any module.
        groups, square: See :class:`.config.FiPSConfig`.

    Returns:
        The groups.

    Raises:
        ValueError: If an expression matches nothing, only modules that other
            layers own, or what another one matched; if a unit holds no linear
            weights, or weights that are factorised already or belong to
            another layer; or if the weights of a group differ in d.
    """
    modules = dict(model.named_modules())
    owner: Dict[str, str] = {}
    seen: Dict[int, str] = {}
    found = []
    for number, pattern in enumerate(groups):
        names = [name for name in modules if re.fullmatch(pattern, name)]
        if not names:
            raise ValueError(_nothing_matches(pattern, modules))
        for name in names:
            _check_owner(name, pattern, owner)
        units = [_unit(name, modules[name], square or {}) for name in names]
        group = Group(f'group{number}', units)
        _check_group(group, pattern, seen)
        found.append(group)
    return found


def _nothing_matches(pattern: str, modules: Dict[str, nn.Module]) -> str:
    """Say what else the expression could have meant."""
    names = {id(module): name for name, module in modules.items()}
    for parent, module in modules.items():
        for name, borrowed in borrowed_by(parent, module):
            if re.fullmatch(pattern, name):
                owner = names.get(id(borrowed), 'not in this model')
                return (
                    f'the group {pattern!r} matches only {name}, which '
                    f'another layer shares with it: its owner is {owner}'
                )
    linear = [n for n, m in modules.items() if isinstance(m, nn.Linear)]
    examples = [name.rpartition('.')[0] or name for name in linear[:3]]
    return (
        f'no module matches the group {pattern!r}; there are for example '
        f'{examples}'
    )


def _check_owner(name: str, pattern: str, owner: Dict[str, str]) -> None:
    for other, by in owner.items():
        if f'{name}.'.startswith(f'{other}.') or other.startswith(f'{name}.'):
            raise ValueError(
                f'{name} matches {pattern!r}, but {other} matched {by!r} '
                'before: a unit belongs to one group'
            )
    owner[name] = pattern


def borrowed_by(
    name: str, module: nn.Module
) -> Iterator[Tuple[str, nn.Module]]:
    """Modules that a module uses, but that are registered in another one."""
    names = getattr(module, 'borrowed', ())
    found = {**vars(module), **{key: getattr(module, key) for key in names}}
    for key, value in found.items():
        if isinstance(value, nn.Module):
            yield f'{name}.{key}' if name else key, value


def _unit(name: str, module: nn.Module, square: Dict[str, str]) -> Unit:
    targets = []
    own = {id(part) for part in module.modules()}
    for inner, linear in module.named_modules():
        full = f'{name}.{inner}' if inner else name
        for other, borrowed in borrowed_by(full, linear):
            is_linear = (isinstance(m, nn.Linear) for m in borrowed.modules())
            if id(borrowed) not in own and any(is_linear):
                raise ValueError(
                    f'{name} cannot be factorised: it uses {other}, which '
                    'belongs to another layer'
                )
        if not isinstance(linear, nn.Linear):
            continue
        if parametrize.is_parametrized(linear, 'weight'):
            raise ValueError(
                f'{full} cannot be factorised: its weight is parametrized '
                'already, by a compression or otherwise'
            )
        # The attribute may be the owner's weight: only registration tells.
        if linear._parameters.get('weight') is None:
            raise ValueError(
                f"{full} cannot be factorised: its weight is another layer's"
            )
        is_transposed = _is_transposed(full, linear, square)
        targets.append(Target(full, linear, is_transposed))
    if not targets:
        raise ValueError(f'the unit {name} holds no linear weights')
    return Unit(name, module, targets)


def _is_transposed(name: str, linear: nn.Linear, square) -> bool:
    out_features, in_features = linear.weight.shape
    if out_features != in_features:
        return out_features > in_features
    for pattern, side in square.items():
        if re.fullmatch(pattern, name):
            if side not in ('in', 'out'):
                raise ValueError(
                    f"square[{pattern!r}] is {side!r}, not 'in' or 'out'"
                )
            return side == 'in'
    raise ValueError(
        f'{name} is square ({out_features} x {in_features}): state by '
        "square={pattern: 'in' or 'out'} which side the base spans"
    )


def _check_group(group: Group, pattern: str, seen: Dict[int, str]) -> None:
    shapes = {t.name: tuple(t.module.weight.shape) for t in group.targets}
    if len({target.dim for target in group.targets}) > 1:
        raise ValueError(
            f'the group {pattern!r} mixes weights whose short sides differ: '
            f'{shapes}'
        )
    for target in group.targets:
        weight = target.module.weight
        if id(weight) in seen:
            raise ValueError(
                f'{target.name} and {seen[id(weight)]} are one weight'
            )
        seen[id(weight)] = target.name
        if not torch.isfinite(weight).all():
            raise ValueError(f'{target.name} holds values that are not finite')
