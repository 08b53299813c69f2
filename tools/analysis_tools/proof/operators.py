"""``torch.library.opcheck`` of every operator, on the GPU's tensors.

Shapes: B samples, T tokens, D width, F hidden width.
"""

from typing import Dict, List

import torch
from torch import Tensor
from torch.library import opcheck

from halvit_mm import ops  # noqa: F401  defines the operators

from .machine import need_library
from .runner import Setup

_NAMESPACE = 'halvit'
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_B, _T, _D, _F = 2, 5, 64, 128
_WITHOUT_GRAD = ('row_scale', 'packed')


def operator_names() -> List[str]:
    """Name all operators, as the dispatcher knows them."""
    names = torch._C._dispatch_get_all_op_names()
    return sorted(
        name.removeprefix(f'{_NAMESPACE}::')
        for name in names
        if name.startswith(f'{_NAMESPACE}::')
    )


def _call(name: str, values: Dict, grad: bool = False) -> List:
    """Put values into the order of an operator's arguments.

    Args:
        name: Of the operator.
        values: Name of an argument -> value; there may be others.
        grad: Whether tensors require a gradient, but for those without one.

    Returns:
        Positional arguments.
    """
    schema = getattr(torch.ops.halvit, name).default._schema
    call = []
    for argument in schema.arguments:
        value = values[argument.name]
        if isinstance(value, Tensor) and argument.name not in _WITHOUT_GRAD:
            value = value.detach().clone().requires_grad_(grad)
        call.append(value)
    return call


def _detach(tensors) -> List[Tensor]:
    return [t.detach() for t in tensors]


def operator_calls(device: str, dtype: torch.dtype) -> Dict[str, List]:
    """Make arguments for every operator that we know of.

    Args:
        device: Of all tensors.
        dtype: The dtype to compute in; weights are float32.

    Returns:
        Name -> positional arguments; those of differentiable operators
        require gradients.
    """

    def rand(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    x = rand(_B, _T, _D, dtype=dtype)
    values = dict(x=x, o=x, delta=x, g=x, residual=rand(_B, _T, _D))
    values.update(row_scale=torch.rand(_B, device=device), eps=1e-6)
    for name in ('weight', 'bias', 'bq', 'bk', 'bv', 'b2'):
        values[name] = rand(_D)
    values.update(wq=rand(_D, _D), wkv=rand(_D, _D), w=rand(_F, _D))
    values.update(b1=rand(_F), dtype=dtype, delta_dtype=dtype)
    values.update(signed=True, approximate='none')

    def run(name: str):
        return getattr(torch.ops.halvit, name)(*_call(name, values))

    total, y, mean, rstd = _detach(run('add_layer_norm'))
    q, k, v, packed = _detach(run('tied_qkv'))
    values.update(packed=packed, dq=q, dk=k, dv=v, mean=mean, rstd=rstd)
    values.update(grad_residual=total, grad_y=y)
    _, values['u'], values['w_cast'] = _detach(run('tied_ffn'))
    needs = dict(add_layer_norm=3, tied_qkv=6, tied_out=3, tied_ffn=4)
    calls = {name: _call(name, values, grad=True) for name in needs}
    for name, count in needs.items():
        name, values['needs'] = f'{name}_backward', [True] * count
        calls[name] = _call(name, values)
    for name in ('tied_ffn_inference', 'pack_qkv'):
        calls[name] = _call(name, values)
    return calls


def opchecks(setup: Setup) -> Dict:
    """Check schema, gradients, shapes and tracing of every operator."""
    need_library(setup)
    data: Dict[str, Dict[str, str]] = {}
    wrong = []
    for dtype in _DTYPES[: 1 if setup.dry_run else None]:
        calls = operator_calls(setup.device, dtype)
        if unknown := sorted(set(operator_names()) - set(calls)):
            raise RuntimeError(f'no arguments here for {unknown}')
        for name, args in calls.items():
            op = getattr(torch.ops.halvit, name).default
            results = opcheck(op, args, raise_exception=False)
            short = str(dtype).partition('.')[2]
            data[f'{name}, {short}'] = {
                test: str(result).partition('\n')[0]
                for test, result in results.items()
            }
            bad = [t for t, result in results.items() if result != 'SUCCESS']
            wrong += [f'{name}, {short}: {test}' for test in bad]
            setup.save(data)
    if wrong:
        raise RuntimeError(f'{len(wrong)} checks failed: {", ".join(wrong)}')
    return data
