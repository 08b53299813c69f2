"""Compressed files: bases, packed factors, and the structure in the header.

A file is one of :mod:`halvit_mm.checkpoint.files` with the format ``'fips'``.
Its header has two more entries: ``structures``, from which a model gets its
bases and factors, and ``shapes`` of the factors, which are packed
(:mod:`halvit_mm.checkpoint.packing`).
"""

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from torch import Tensor, nn

from ..checkpoint.files import load_content, read_header, save_weights
from ..checkpoint.header import Header, host_meta
from ..checkpoint.loading import load_weights
from ..checkpoint.packing import pack, unpack
from ..checkpoint.untrusted import named_faults
from .parametrization import factors
from .structure import Structure, attach_structure

_FACTOR = '.parametrizations.weight.original'


class CompressedFile(NamedTuple):
    """What a compressed file holds.

    Attributes:
        structures: One per group.
        state_dict: Of the compressed model, unpacked; pruned entries are 0.
        meta: The ``meta`` of a checkpoint, with the classes' names.
    """

    structures: List[Structure]
    state_dict: Dict[str, Tensor]
    meta: Dict


def save_compressed(
    module: nn.Module,
    structures: Sequence[Structure],
    path: Path,
    **described,
) -> int:
    """Write a compressed model.

    Args:
        module: A model with factors.
        structures: Structure of each group, from :func:`.fips.prepare`.
        path: A ``.safetensors`` file; it is replaced only when the new one is
            complete.
        described: ``classes``, ``palette``, ``model`` and ``test_pipeline``
            of the header, see :mod:`halvit_mm.checkpoint.header`.

    Returns:
        Size of the file in bytes.

    Raises:
        OSError: If it cannot be written.
    """
    shapes = {
        f'{f.name}{_FACTOR}': list(f.weight.mask.shape)
        for f in factors(module)
    }
    save_weights(
        path,
        pack(module.state_dict()),
        format='fips',
        structures=structures,
        shapes=shapes,
        **described,
    )
    return Path(path).stat().st_size


def read_structures(path: Path) -> List[Structure]:
    """Read how a compressed file's model is built, and none of its weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no compressed file.
    """
    _check_exists(path)
    return _structures(read_header(path), path)


def read_compressed(path: Path) -> CompressedFile:
    """Read a compressed file, of this or an earlier version, and check it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, cut short, or no compressed file.
    """
    _check_exists(path)
    content, header = load_content(path)
    structures = _structures(header, path)
    with named_faults(path):
        state_dict = unpack(content, header['shapes'])
    return CompressedFile(structures, state_dict, host_meta(header))


def is_compressed_file(path: Path) -> bool:
    """Whether the header of a file, of any kind, says that it is one."""
    header = read_header(path)
    return header is not None and header['format'] == 'fips'


def _check_exists(path: Path) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no compressed file {path}')


def _structures(header: Optional[Header], path: Path) -> List[Structure]:
    if header is None or header['format'] != 'fips':
        raise ValueError(f'{path} is no compressed file of FiPS')
    with named_faults(path):
        found = [Structure.from_json(v) for v in header['structures']]
        size = Path(path).stat().st_size
    for structure in found:
        numbers = (structure.dim, structure.rank)
        if not all(type(n) is int and 0 < n <= size for n in numbers):
            raise ValueError(
                f'{path}: a base of {numbers[0]!r:.40} x {numbers[1]!r:.40} '
                'is not in it'
            )
    names = [target.name for s in found for target in s.targets]
    are_text = all(isinstance(name, str) for name in names)
    if not are_text or len(set(names)) < len(names):
        raise ValueError(
            f'{path}: its structures name a weight twice or by no text'
        )
    return found


def load_compressed(model: nn.Module, path: Path) -> List[Structure]:
    """Make a freshly built model the compressed one of a file.

    Args:
        model: A model of the original architecture, without factors; changed.
        path: File of :func:`save_compressed`.

    Raises:
        ValueError: As :func:`read_compressed`, and if the file is of another
            architecture.
    """
    structures = read_structures(path)
    try:
        attach_structure(model, structures)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: {error}') from error
    load_weights(model, str(path), min_coverage=1.0)
    return structures
