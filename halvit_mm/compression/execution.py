"""How a compressed model computes."""

from torch import nn

from .low_rank import to_low_rank
from .parametrization import materialize

#: ``materialize`` multiplies base and factor once: dense weights again, as
#: fast as the original. ``low_rank`` computes ``(x U) V`` at every call.
EXECUTIONS = dict(materialize=materialize, low_rank=to_low_rank)


def convert(model: nn.Module, execution: str = 'materialize') -> int:
    """Choose how a compressed model computes, for inference.

    Args:
        model: The model; it is changed. It can be trained as a dense one
            afterwards, but is no longer compressed.
        execution: One of :data:`EXECUTIONS`.

    Returns:
        Number of weights.

    Raises:
        ValueError: For an unknown execution, or one that a layer does not
            know.
    """
    if execution not in EXECUTIONS:
        raise ValueError(
            f'execution={execution!r}: choose one of {list(EXECUTIONS)}'
        )
    return EXECUTIONS[execution](model)
