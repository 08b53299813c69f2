"""The classes that the model of a checkpoint was trained for."""

from typing import Any, List, Optional, Sequence, Tuple

from .files import load_content, read_header
from .header import Header

#: Beginnings of the names of layers with an output for each class, in the
#: heads of Faster and Mask R-CNN and of classifiers.
CLASS_LAYERS = (
    r'(.*\.)?(fc_cls|fc_reg|conv_logits|head\.fc|head\.layers\.head)\.'
)


def classes_of(
    content: Any, header: Optional[Header]
) -> Optional[Tuple[str, ...]]:
    """Find the names of the classes in what a file holds.

    Args:
        content: Of a checkpoint, as it is stored.
        header: Of a file of ours.

    Returns:
        The names in the order of the model's outputs; None without any.
    """
    found = header.get('classes') if header else None
    if not found and isinstance(content, dict):
        # what mmengine's runner keeps
        meta = content.get('meta')
        meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
        found = meta.get('classes') if isinstance(meta, dict) else None
    if not isinstance(found, (list, tuple)) or not found:
        return None
    return tuple(map(str, found))


def read_classes(path: str) -> Optional[Tuple[str, ...]]:
    """Read the names of the classes of a checkpoint.

    Args:
        path: A local file, see :func:`.read_weights`.

    Returns:
        As :func:`classes_of`.

    Raises:
        FileNotFoundError, ValueError: As for :func:`.read_weights`.
    """
    if header := read_header(path):
        return classes_of({}, header)
    return classes_of(*load_content(path))


def describe_classes(
    there: Sequence[str], here: Sequence[str], names: Tuple[str, str]
) -> str:
    """Say how two lists of classes differ.

    Args:
        there, here: Names in their order.
        names: What has these.

    Returns:
        A text; empty if they are the same.
    """
    if list(there) == list(here):
        return ''
    lines: List[str] = []
    if sorted(there) == sorted(here):
        lines.append('the same classes in another order')
    for name, classes in zip(names, (there, here)):
        shown = ', '.join(classes[:9]) + ', ...' * (len(classes) > 9)
        lines.append(f'{name} has {len(classes)} classes: {shown}')
    return '; '.join(lines)
