"""ONNX files in which every tensor of a model is stored once."""

import json
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx import Graph

from ...checkpoint import atomic_write

INSTALL = "pip install 'halvit-mm[export]'"
#: By so much the bytes of a file's tensors may differ from the model's.
_TOLERANCE = 0.01
#: Tensors of fewer elements stay float32: biases and norms.
HALVED = 8192
_FP16_MAX = 65504.0


class Stored(NamedTuple):
    """The weights in a file.

    Attributes:
        megabytes: 10^6 bytes.
        tensors: How many.
        unused: Megabytes of the model that are not in the file, for no
            output depends on them.
    """

    megabytes: float
    tensors: int
    unused: float = 0.0


def load_onnx() -> Tuple:
    """Import ``onnx`` and ``onnxruntime``.

    Raises:
        ImportError: If one is not installed, with the command that does it.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, PyTorch imports it
    except ImportError as error:
        raise ImportError(
            f'ONNX files are written by onnx and onnxscript, and checked by '
            f'onnxruntime ({error}): {INSTALL}'
        ) from error
    return onnx, onnxruntime


def trace(
    graph: nn.Module, multiple: int, size: Optional[Tuple[int, int]] = None
) -> ExportedProgram:
    """Export a module by ``torch.export``.

    Args:
        graph: A function of images, (B, 3, H, W).
        multiple: Of which H and W are multiples.
        size: H and W, where they are fixed.

    Raises:
        ValueError: If the size is no multiple.
        RuntimeError: If PyTorch cannot follow the model.
    """
    if size and any(side < 1 or side % multiple for side in size):
        raise ValueError(
            f'the size {tuple(size)} is not a multiple of {multiple}, as the '
            'model takes it'
        )
    # An axis of length 1 would be fixed. The sides are of no importance.
    sides = size or [-(-side // multiple) * multiple for side in (192, 256)]
    dynamic = {} if size else {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    if graph.num_images > 1:
        dynamic[0] = Dim.DYNAMIC
    images = torch.zeros(graph.num_images, 3, *sides)
    with torch.no_grad():
        return torch.export.export(
            graph, (images,), dynamic_shapes=(dynamic,), strict=False
        )


def write_onnx(
    program: ExportedProgram,
    names: List[str],
    path: Path,
    metadata: Dict[str, object],
    half: bool = False,
) -> None:
    """Write a program as an ONNX file.

    Args:
        program: Of :func:`trace`.
        names: Of its outputs.
        path: The file; it is written whole or not at all.
        metadata: Entries, each of which is written as JSON.
        half: Whether matrices are stored in float16. They are cast to
            float32 before they are used.

    Raises:
        ValueError: If a matrix does not fit into float16.
        RuntimeError: If PyTorch has no ONNX for an operator.
        OSError: If the file cannot be written.
    """
    onnx, _ = load_onnx()
    converted = torch.onnx.export(
        program,
        dynamo=True,
        # onnxscript's optimizer would compute transposes, as second copies
        # of what is tied. onnxruntime does so when it loads the file.
        optimize=False,
        verbose=False,
        input_names=['images'],
        output_names=names,
    )
    proto = converted.model_proto
    _strip(proto)
    if half:
        _halve(proto, onnx)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=json.dumps(value, default=str))
    with atomic_write(path) as part:
        part.write_bytes(proto.SerializeToString())


def _strip(proto) -> None:
    """Drop what PyTorch notes of each node: its source lines, with paths."""
    del proto.graph.value_info[:]
    for part in (proto.graph, *proto.functions):
        del part.metadata_props[:]
        for node in part.node:
            del node.metadata_props[:]
    for value in (*proto.graph.initializer, *proto.graph.output):
        del value.metadata_props[:]


def _halve(proto, onnx) -> None:
    """Store matrices in float16, each behind a cast of its old name."""
    graph, casts = proto.graph, []
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype != 'float32' or array.size < HALVED:
            continue
        if abs(array).max() > _FP16_MAX:
            raise ValueError(
                f'{tensor.name} has values beyond {_FP16_MAX:g}, the largest '
                'of float16: export without --half'
            )
        name, stored = tensor.name, f'{tensor.name}.float16'
        half = onnx.numpy_helper.from_array(array.astype('float16'), stored)
        tensor.CopyFrom(half)
        casts.append(onnx.helper.make_node('Cast', [stored], [name], to=1))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def stored_weights(path: Path) -> Stored:
    """Count the tensors that are in an ONNX file.

    Args:
        path: The file.
    """
    onnx = load_onnx()[0]
    arrays = list(_arrays(onnx.load(path).graph, onnx))
    return Stored(sum(a.nbytes for a in arrays) / 1e6, len(arrays))


def _arrays(graph, onnx) -> Iterator:
    """Every tensor of a graph and of the graphs inside."""
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] * attribute.HasField('t')
            for inner in [*attribute.graphs, attribute.g]:
                yield from _arrays(inner, onnx)
    yield from map(onnx.numpy_helper.to_array, tensors)


def _needed(graph: Graph) -> Set[str]:
    """Names of the nodes that an output depends on."""
    needed = {'output'}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(source.name for source in node.all_input_nodes)
    return needed


def check_stored_once(
    path: Path, program: ExportedProgram, half: bool
) -> Stored:
    """Check that a file has the tensors of a program, each of them once.

    Args:
        path: The file; it is removed if it has not.
        program: Of :func:`trace`, what was written.
        half: As for :func:`write_onnx`.

    Returns:
        What the file holds.

    Raises:
        ValueError: If its bytes differ by more than 1 %.
    """
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {**program.constants, **program.state_dict}
    needed = _needed(program.graph)
    used, unique = {}, {}
    for node, name in names.items():
        tensor = tensors[name]
        unique[tensor.data_ptr()] = tensor
        if node in needed:
            used[tensor.data_ptr()] = tensor
    expected = sum(
        t.numel() * 2
        if half and t.numel() >= HALVED and t.dtype == torch.float32
        else t.nbytes
        for t in used.values()
    )
    stored = stored_weights(path)
    if abs(stored.megabytes * 1e6 - expected) > _TOLERANCE * expected:
        path.unlink()
        raise ValueError(
            f'{path} is removed: its tensors have {stored.megabytes:.2f} MB, '
            f'those of the model {expected / 1e6:.2f}, so that some would be '
            'stored twice or not at all'
        )
    left_out = [t.nbytes for key, t in unique.items() if key not in used]
    return stored._replace(unused=sum(left_out) / 1e6)
