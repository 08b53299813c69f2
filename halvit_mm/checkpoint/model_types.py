"""The model in a header: plain JSON that builds only what is listed here.

A config is built by the names of its types, and the hosts' registries accept
the dotted name of any Python function: ``dict(type='os.system', ...)`` would
run it. A file from elsewhere is therefore compared with a list of models and
of what they are made of.
"""

from pathlib import Path
from typing import Any, Container, Iterable, Iterator, Optional, Tuple

from .log import say

_SCOPES = ('halvit_mm.', 'mmdet.', 'mmpretrain.', 'mmengine.')
_DEPTH = 64  # of dicts and lists in one another

#: Types that a model in a header may name, with or without a scope in front.
ALLOWED_TYPES = frozenset(
    """
    CompressedBackbone GroupedViT HaLViT PlainViT SharedHaLViT TiedResNet
    ResNet SwinTransformer VisionTransformer FPN SimpleFPN GlobalAveragePooling
    ImageClassifier LinearClsHead VisionTransformerClsHead
    CascadeRCNN CascadeRoIHead FasterRCNN MaskRCNN RPNHead RetinaHead RetinaNet
    StandardRoIHead ConvFCBBoxHead FCNMaskHead Shared2FCBBoxHead
    Shared4Conv1FCBBoxHead SingleRoIExtractor RoIAlign
    AnchorGenerator DeltaXYWHBBoxCoder MaxIoUAssigner PseudoSampler
    RandomSampler nms soft_nms
    ClsDataPreprocessor DetDataPreprocessor BatchFixedSizePad
    CrossEntropyLoss FocalLoss GIoULoss L1Loss LabelSmoothLoss SmoothL1Loss
    CutMix Mixup
    BN GN LN LN2d SyncBN GELU ReLU
    Constant Kaiming Normal TruncNormal Uniform Xavier
    """.split()
)

#: Types of earlier versions and what they are now. Nothing is registered under
#: these names: their weights are read, a model is not built.
RENAMED_TYPES = {'GroupedMLPViT': "GroupedViT with shares=['ffn']"}

#: Transforms that the test pipeline in a header may name.
ALLOWED_TRANSFORMS = frozenset(
    """
    LoadImageFromFile Resize ResizeEdge Pad CenterCrop PackDetInputs PackInputs
    """.split()
)


def check_model(
    model: Any, path: Path, allowed: Container[str] = ALLOWED_TYPES
) -> dict:
    """Check that a model's config builds known parts only.

    Args:
        model: The config, of dicts, lists, strings, numbers and None; it is
            returned.
        path: File that holds it, for the error.
        allowed: Names of types, without a scope.

    Raises:
        ValueError: If it is no dict with a type, holds an object, or names a
            type that is not allowed, however deep inside.
    """
    if not isinstance(model, dict) or 'type' not in model:
        raise ValueError(
            f'{path}: the model in its header is to be a dict with a type, '
            f'not {model!r:.80}'
        )
    for where, value in _values(model, 'model'):
        if where.endswith('.type'):
            name = str(value)
            for scope in _SCOPES:
                name = name.removeprefix(scope)
            if not isinstance(value, str) or name not in allowed:
                if name in RENAMED_TYPES:
                    raise ValueError(
                        f'{path}: {where} in its header is {value!r}, which '
                        f'is {RENAMED_TYPES[name]} now: name a config that '
                        'says so, or write the file anew'
                    )
                raise ValueError(
                    f'{path}: {where} in its header is {value!r}, which is '
                    'not among the types that a file may name (ALLOWED_... '
                    'in halvit_mm.checkpoint.model_types)'
                )
        elif where.endswith('._scope_') and f'{value}.' not in _SCOPES:
            raise ValueError(  # the hosts import what it names
                f'{path}: {where} in its header is {value!r}, which is not '
                f'among {", ".join(s[:-1] for s in _SCOPES)}'
            )
        elif not isinstance(value, (str, int, float, bool, type(None))):
            raise ValueError(
                f'{path}: {where} in its header is a {type(value).__name__}, '
                'not data'
            )
    return model


def header_model(model: dict, path: Path) -> Optional[dict]:
    """The model of a config, as the header of a file of its weights has it.

    Args:
        model: The config, of plain dicts and lists.
        path: File that gets it.

    Returns:
        The same without files of other weights (``checkpoint``, ``init_cfg``
        of type Pretrained), for the file has them all; None, which is logged,
        if it names types that are not allowed.
    """
    try:
        return check_model(_without_files(model), path)
    except ValueError as error:
        say(f'the header has no model: {error}')
        return None


def check_pipeline(pipeline: Any, path: Path) -> list:
    """Check that a test pipeline is of known transforms only.

    Args:
        pipeline: The configs of the transforms; they are returned.
        path: File that holds them, for the error.

    Raises:
        ValueError: As for :func:`check_model`.
    """
    if not isinstance(pipeline, list):
        raise ValueError(
            f'{path}: the test pipeline in its header is to be a list, not '
            f'{pipeline!r:.80}'
        )
    return [check_model(step, path, ALLOWED_TRANSFORMS) for step in pipeline]


def header_pipeline(pipeline: Iterable[dict], path: Path) -> Optional[list]:
    """The test pipeline of a config, as a header has it.

    Args:
        pipeline: The configs of the transforms, of plain dicts and lists.
        path: File that gets them.

    Returns:
        The same without what reads annotations; None, which is logged, if
        there are transforms that are not allowed.
    """
    steps = [s for s in pipeline if 'LoadAnnotations' not in s['type']]
    try:
        return check_pipeline(steps, path)
    except ValueError as error:
        say(f'the header has no test pipeline: {error}')
        return None


def _without_files(node: Any) -> Any:
    if isinstance(node, (list, tuple)):
        return [_without_files(value) for value in node]
    if not isinstance(node, dict):
        return node
    found = {key: _without_files(value) for key, value in node.items()}
    init = found.get('init_cfg') or []
    init = [init] if isinstance(init, dict) else init
    if any(cfg.get('type') == 'Pretrained' for cfg in init):
        found['init_cfg'] = None
    if 'checkpoint' in found:
        found['checkpoint'] = None
    return found


def _values(
    node: Any, where: str, depth: int = _DEPTH
) -> Iterator[Tuple[str, Any]]:
    """Every type, every value that is no dict or list, and their places."""
    if not depth:
        raise ValueError(f'{where:.80}... is nested too deep')
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'type':
                yield f'{where}.type', value
            else:
                yield from _values(value, f'{where}.{key}', depth - 1)
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _values(value, f'{where}.{i}', depth - 1)
    else:
        yield where, node
