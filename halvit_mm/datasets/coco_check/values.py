"""Values as exporters write them: numbers and lists also as text."""

import json
import math
from pathlib import Path
from typing import Any, List, Optional, Tuple, Union

from .findings import DataError

#: Above it, evaluators that count in float64 take two ids for one.
MAX_ID = 2**53


def read_json(path: str) -> Tuple[Any, bool]:
    """Read a JSON file.

    Returns:
        Its content, and whether it holds NaN or Infinity.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is no JSON, or nests deeper or has longer numbers
            than Python reads.
    """
    constants = []

    def keep(name: str) -> float:
        constants.append(name)
        return float(name.replace('Infinity', 'inf'))

    # Bytes, whose encoding is found: UTF-8 whatever the locale, with or
    # without a byte order mark, or UTF-16.
    data = Path(path).read_bytes()
    try:
        return json.loads(data, parse_constant=keep), bool(constants)
    except (ValueError, RecursionError, MemoryError) as error:
        cure = f'it is no whole JSON file ({error}): copy or export it again'
        if data.startswith((b'\x1f\x8b', b'PK')):
            cure = 'it is compressed, as .gz or .zip: unpack it'
        raise DataError(path, [cure]) from error


def read_number(value: Any) -> float:
    """Read a number, also from text; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def read_numbers(value: Any) -> Optional[List[float]]:
    """Return a list of finite numbers, also of those in text, else None."""
    if not isinstance(value, list):
        return None
    # Whole numbers of JSON may be larger than any float.
    if all(type(x) in (int, float) and abs(x) < 1e300 for x in value):
        return value
    found = [read_number(x) for x in value]
    return found if all(map(math.isfinite, found)) else None


def read_id(value: Any) -> Optional[Union[int, str]]:
    """Write an id as a whole number if it is one; None if it is no id."""
    if isinstance(value, str) and value.strip():
        text = value.strip()
        is_number = text.isascii() and text.lstrip('-').isdigit()
        is_number = is_number and len(text) < 4300  # longer ones int() refuses
        return int(text) if is_number else text
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def read_flag(value: Any) -> bool:
    """Read yes or no, also from text."""
    return value in (1, True, '1', 'true', 'True')


def read_text(value: Any) -> Any:
    """Read a list or object that was written as text; else the value."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
