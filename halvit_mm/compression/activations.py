"""What goes into units of a model and what comes out, batch by batch."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .targets import borrowed_by


class Call(NamedTuple):
    """Positional arguments of a call of a unit, and what it returned."""

    args: Tuple[Any, ...]
    output: Tensor

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        tensors = [x for x in (*self.args, self.output) if torch.is_tensor(x)]
        return sum(tensor.nbytes for tensor in tensors)


class ActivationStore:
    """Calls of units: in memory up to a limit in bytes, beyond it in files."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.num_bytes = 0
        self.num_batches = 0
        self._kept: Dict[Tuple[str, int], Dict[str, Tensor]] = {}
        self._others: Dict[Tuple[str, int], List[Any]] = {}

    def put(self, unit: str, batch: int, call: Call) -> None:
        """Keep a call of a unit, by the unit's name and the batch's number.

        Raises:
            ValueError: If the call's tensors are not finite.
            OSError: If the disk is full.
        """
        values, tensors = (*call.args, call.output), {}
        for i, value in enumerate(values):
            if not isinstance(value, Tensor):
                continue
            if not torch.isfinite(value).all():
                what = 'input' if i < len(call.args) else 'output'
                raise ValueError(
                    f'the {what} of {unit} in batch {batch} holds values '
                    'that are not finite'
                )
            tensors[str(i)] = value.detach().cpu().contiguous()
        self._others[unit, batch] = [
            None if isinstance(value, Tensor) else value for value in values
        ]
        self.num_batches = max(self.num_batches, batch + 1)
        if self.num_bytes + call.num_bytes <= self.limit:
            self.num_bytes += call.num_bytes
            self._kept[unit, batch] = tensors
            return
        path = self._path(unit, batch)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, path)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f'activations cannot be written to {path} ({error}); states '
                'that were saved are kept'
            ) from error

    def get(self, unit: str, batch: int, device: torch.device) -> Call:
        """Look up a call, with its tensors on a device."""
        tensors = self._kept.get((unit, batch))
        if tensors is None:
            tensors = load_file(self._path(unit, batch))
        *args, output = (
            tensors[str(i)].to(device) if str(i) in tensors else other
            for i, other in enumerate(self._others[unit, batch])
        )
        return Call(tuple(args), output)

    def _path(self, unit: str, batch: int) -> Path:
        return self.folder / f'{unit}.{batch}.safetensors'

    def clear(self) -> None:
        """Forget everything and remove the files."""
        for unit, batch in self._others:
            self._path(unit, batch).unlink(missing_ok=True)
        self._kept.clear()
        self._others.clear()
        self.num_bytes = self.num_batches = 0


class _PassDoneError(Exception):
    """Ends a pass of a model, when all units have been called."""


def _parts(module: nn.Module, name: str) -> List[str]:
    """Children with linear layers, for an error message."""
    return [
        f'{name}.{child}'
        for child, part in module.named_children()
        if any(isinstance(m, nn.Linear) for m in part.modules())
    ]


def _check_called_once(model: nn.Module, units: Sequence[str]) -> None:
    """Refuse a unit that other layers use as well."""
    owner = {
        id(part): unit
        for unit in units
        for part in model.get_submodule(unit).modules()
    }
    for parent, module in model.named_modules():
        for name, borrowed in borrowed_by(parent, module):
            unit = owner.get(id(borrowed))
            if unit and not f'{name}.'.startswith(f'{unit}.'):
                raise ValueError(
                    f'{unit} cannot be calibrated: {name} is the same module, '
                    'and a unit is called once per pass. Name groups without '
                    'it, groups=[...]'
                )


def capture(
    model: nn.Module,
    units: Sequence[str],
    batches: Iterable[Tensor],
    store: ActivationStore,
) -> None:
    """Run a model and keep what its units take and give.

    Args:
        model: In eval mode.
        units: Full names of modules inside it.
        batches: Images, (B, 3, H, W) each.
        store: Gets the calls.

    Raises:
        RuntimeError: If a unit is not called exactly once per batch.
        ValueError: If an activation is not finite; if a unit cannot be
            called again as it was: it takes keyword arguments or does not
            return one tensor; or if several layers share a unit.
    """
    _check_called_once(model, units)
    device = next(model.parameters()).device
    calls: Dict[str, List[Call]] = {}

    def keep(name: str):
        def hook(module, args, kwargs, output):
            if kwargs or not isinstance(output, Tensor):
                raise ValueError(
                    f'{name} takes the keyword arguments {sorted(kwargs)} and '
                    f'returns a {type(output).__name__}: a unit takes none '
                    'and returns a tensor. A part of it may do, such as '
                    f'{_parts(module, name)}'
                )
            calls.setdefault(name, []).append(Call(args, output))
            if len(calls) == len(units):
                raise _PassDoneError  # what follows is not needed

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(
            keep(name), with_kwargs=True
        )
        for name in units
    ]
    try:
        for number, batch in enumerate(batches):
            calls.clear()
            with torch.no_grad(), suppress(_PassDoneError):
                model(batch.to(device))
            for name in units:
                found = calls.get(name, [])
                if len(found) != 1:
                    raise RuntimeError(
                        f'{name} was called {len(found)} times in one pass; '
                        'a unit is called once'
                    )
                store.put(name, number, found[0])
    finally:
        for handle in handles:
            handle.remove()
