"""What our files say about the weights that they hold.

``format`` (``'dense'`` or ``'fips'``), ``version``, ``sha256`` of the stored
tensors, ``classes`` and ``palette`` of the data set, ``variant`` of the weight
tying, ``model``, the config of the model (see :mod:`.model_types`), whose
weights are those of the file, and ``test_pipeline``, what is done with images
before it; unknown entries are None. A format may add entries of its own. All
of it is plain JSON.
"""

import json
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from .model_types import (
    ALLOWED_TYPES,
    RENAMED_TYPES,
    check_model,
    check_pipeline,
)

Header = Dict[str, Any]

HEADER_KEY = 'halvit_mm'
VERSION = 2


def _is_list(value: Any, kind: type) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(x, kind) for x in value)
    )


#: Entry -> whether a value can be one.
_KINDS = {
    'format': lambda value: value in ('dense', 'fips'),
    'classes': lambda value: _is_list(value, str),
    'palette': lambda value: (
        _is_list(value, list)
        and all(len(c) == 3 and _is_list(c, int) for c in value or ())
    ),
    'variant': lambda value: _is_list([value], (str, type(None))),
}
#: What reading it raises where it is of other types, or nested too deep.
_NO_HEADER = (
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
#: Metadata entry of compressed files of version 1.
_FIPS_1 = 'halvit_mm.fips'


def host_meta(header: Optional[Header]) -> Dict:
    """What the ``meta`` of a checkpoint tells the hosts about its classes."""
    found = ((k, (header or {}).get(k)) for k in ('classes', 'palette'))
    known = {k: v for k, v in found if v is not None}
    return dict(dataset_meta=known) if known else {}


def parse_header(metadata: Dict, path: Path) -> Optional[Header]:
    """Find and check the header of a file.

    Args:
        metadata: Of a safetensors file, or what one of ``torch.save`` holds.
        path: The file, for errors.

    Returns:
        The header, also of compressed files of version 1, or None.

    Raises:
        ValueError: If its version is not known here, or if its model names a
            type that is not allowed.
    """
    try:
        header, known = _decode(metadata)
        version = header and header['version']
    except _NO_HEADER as error:
        raise ValueError(f'{path}: its header is damaged: {error}') from error
    if version != known:
        raise ValueError(
            f'{path} has version {version} of the format, this code reads '
            f'version {known}'
        )
    for key, value in (header or {}).items():
        if key in _KINDS and not _KINDS[key](value):
            raise ValueError(
                f'{path}: its header is damaged: {key} is {value!r:.80}'
            )
    if header is not None and header.get('model') is not None:
        # Weights under an old name are read; who builds checks once more.
        check_model(header['model'], path, ALLOWED_TYPES | set(RENAMED_TYPES))
    if header is not None and header.get('test_pipeline') is not None:
        check_pipeline(header['test_pipeline'], path)
    return header


def _decode(metadata: Dict) -> Tuple[Optional[Header], Optional[int]]:
    """The header and the version that it is to have."""
    if _FIPS_1 in metadata:
        old = json.loads(metadata[_FIPS_1])
        meta = (old.pop('meta', None) or {}).get('dataset_meta') or {}
        empty = dict.fromkeys(('classes', 'palette', 'variant', 'model'))
        return {**empty, **meta, 'format': 'fips', **old}, 1
    if HEADER_KEY not in metadata:
        return None, None
    header = metadata[HEADER_KEY]
    header = json.loads(header) if isinstance(header, str) else header
    return {'format': 'dense', **header}, VERSION
