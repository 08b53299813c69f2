"""From a file of weights to an ONNX file that is checked."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import torch
from mmdet.models import BaseDetector
from torch import nn

from ...compression import convert
from ...models import CompressedBackbone
from ..model_info import count_parameters
from ..predict.model import LoadedModel, load_model
from .comparison import compare
from .features import Classifier, Features
from .onnx_file import check_stored_once, load_onnx, trace, write_onnx
from .supported import check_any_size
from .two_stage import TwoStage

#: What of a model is exported.
PARTS = ('all', 'features')


def export(
    source: str,
    out: Path,
    config: Optional[str] = None,
    part: str = 'all',
    size: Optional[Tuple[int, int]] = None,
    half: bool = False,
    program: bool = False,
    pictures: Sequence[str] = (),
) -> List[str]:
    """Write a model as an ONNX file that needs nothing of this package.

    Args:
        source, config: ``path`` and ``config`` of :func:`.load_model`.
        out: The file, ``*.onnx``.
        part: ``'all'``, or ``'features'`` for the backbone and the neck.
        size: Height and width of the images, where they are fixed.
        half: Whether matrices are stored in float16.
        program: Whether the program of ``torch.export`` is written beside
            the file, as ``*.pt2``; it needs a size.
        pictures: Image files on which the file is compared with PyTorch.

    Returns:
        Sentences: what was written, its size, how far it differs.

    Raises:
        FileNotFoundError, ImportError, OSError, ValueError: If the model
            cannot be loaded or exported, or the file is not as it should be.
    """
    load_onnx()  # before anything takes time
    if out.suffix != '.onnx':
        raise ValueError(f'{out}: the name of an ONNX file ends in .onnx')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise OSError(f'{out} cannot be written ({error})') from error
    for path in pictures:
        if not cv2.haveImageReader(path):
            raise ValueError(f'{path} is no image that OpenCV can read')
    if program and size is None:
        raise ValueError(
            'a program of torch.export is for images of one size, for it '
            'refuses others: say which, --shape HEIGHT WIDTH'
        )
    loaded = load_model(source, config, 'cpu', classifiers=True)
    said = []
    if isinstance(loaded.model.backbone, CompressedBackbone):
        loaded.model.backbone = loaded.model.backbone.inner
        number = convert(loaded.model.backbone)
        said.append(
            f'{number} FiPS products of base and factor are written as dense '
            'weights'
        )
    graph = make_graph(loaded.model, part)
    check_any_size(loaded.model.backbone, size)
    multiple = side_multiple(graph)
    try:
        traced = trace(graph, multiple, size)
        names = list(getattr(graph, 'names', ()))
        outputs = len(traced.graph_signature.user_outputs)
        names = names or [f'feature{i}' for i in range(outputs)]
        write_onnx(traced, names, out, metadata(loaded, graph, multiple), half)
    except RuntimeError as error:  # as PyTorch's exporter, page by page
        why = ' '.join(f'{error}'.split('\n')[:2])
        raise ValueError(f'{source} cannot be exported: {why}') from error
    stored = check_stored_once(out, traced, half)
    own, effective = count_parameters(graph)
    untied = stored.megabytes * effective / own
    said.append(
        f'{out}: {out.stat().st_size / 1e6:.2f} MB, {stored.megabytes:.2f} of '
        f'them in {stored.tensors} tensors, each stored once; transposes are '
        f'nodes; untied, the tensors would have {untied:.2f} MB'
    )
    if stored.unused >= 0.005:
        said.append(
            f'{stored.unused:.2f} MB of the model are left out: no output '
            'depends on them'
        )
    steps = [step['type'].split('.')[-1] for step in loaded.pipeline]
    if left := [s for s in steps if not s.startswith(('Load', 'Pack'))]:
        said.append(f'left to who reads the file: {", ".join(left)}')
    if program:
        torch.export.save(traced, out.with_suffix('.pt2'))
        said.append(f'{out.with_suffix(".pt2")}: the program of torch.export')
    return [*said, compare(out, graph, multiple, pictures, size)]


def make_graph(model: nn.Module, part: str = 'all') -> nn.Module:
    """Build the function of tensors that is exported.

    Args:
        model: A detector or a classifier, in eval mode.
        part: One of :data:`PARTS`.

    Raises:
        ValueError: For another part, or a detector that cannot be exported.
    """
    if part not in PARTS:
        raise ValueError(f'part={part!r}: choose one of {PARTS}')
    if part == 'features':
        graph = Features(model)
    elif isinstance(model, BaseDetector):
        graph = TwoStage(model)
    else:
        graph = Classifier(model)
    return graph.eval().requires_grad_(False)


def side_multiple(graph: nn.Module) -> int:
    """Of which number the sides of images are to be multiples.

    Args:
        graph: Of :func:`make_graph`.
    """
    features = getattr(graph, 'features', graph)
    if features.preprocessor.pad_size_divisor > 1:
        return 1  # they are padded
    return getattr(features.backbone, 'patch_size', 1)


def metadata(
    loaded: LoadedModel, graph: nn.Module, multiple: int
) -> Dict[str, object]:
    """What a consumer of the file needs to know.

    Args:
        loaded: The model.
        graph: What is exported of it.
        multiple: Of :func:`side_multiple`.
    """
    found = dict(
        classes=loaded.classes,
        test_pipeline=loaded.pipeline,
        multiple_of=multiple,
    )
    if 'masks' in getattr(graph, 'names', ()):
        test_cfg = loaded.model.roi_head.test_cfg
        found['mask_threshold'] = test_cfg.mask_thr_binary
    return found
