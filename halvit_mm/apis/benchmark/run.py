"""Time variants of a case side by side."""

import logging
import math
import sys
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import torch

from ... import ops
from .cases import Case
from .ceilings import count_flops, measure_ceilings
from .environment import environment
from .result import BenchmarkResult, VariantResult
from .saved import saved_bytes
from .steps import Clock, Step
from .variants import VARIANTS, choose_variants, make_step, why_not

__all__ = ['round_robin', 'run_benchmark']

_WARM_UP = 2  # steps after the first


def round_robin(names: Sequence[str], rounds: int) -> Iterator[List[str]]:
    """Order of each round.

    Args:
        names: To be run once a round.
        rounds: Number of rounds.

    Yields:
        All names, beginning with another one each time.
    """
    for i in range(rounds):
        start = i % len(names) if names else 0
        yield [*names[start:], *names[:start]]


def run_benchmark(
    case: Case,
    variants: Optional[Sequence[str]] = None,
    reference: Optional[str] = None,
    rounds: int = 15,
    min_seconds: float = 0.1,
    compile_backend: str = 'inductor',
    ceilings: bool = True,
    log: Callable[[str], None] = lambda line: None,
) -> BenchmarkResult:
    """Time variants of a case in one process, in turns.

    Args:
        case: What is computed.
        variants: Names, by default all but ``compile-max``.
        reference: That the others are compared with; by default ``untied``,
            or the first one without it.
        rounds: Each runs every variant once.
        min_seconds: Least length of a sample, which is the mean of as many
            steps as it takes.
        compile_backend: Of ``torch.compile``.
        ceilings: Whether products and copies are timed, too.
        log: Is told what is going on.

    Returns:
        Samples and measures. A variant that cannot run has a reason instead.

    Raises:
        ValueError: If a variant or the reference is unknown, or a number is
            out of range.
    """
    names = choose_variants(case.level, variants)
    if reference is None:
        reference = 'untied' if 'untied' in names else names[0]
    if reference not in names:
        raise ValueError(
            f'reference={reference!r} is none of the variants {list(names)}'
        )
    if rounds < 1 or min_seconds < 0:
        raise ValueError(
            f'rounds={rounds} is to be at least 1 and '
            f'min_seconds={min_seconds} not negative'
        )
    torch.compiler.reset()  # nothing that was compiled before is left
    ops.backend()  # loads the library, for all variants alike
    results = {name: VariantResult(name) for name in names}
    steps = _warm_up(case, results, compile_backend, log)
    for name, step in steps.items():
        results[name].repeats = _repeats(case, step, min_seconds)
    for order in round_robin(list(steps), rounds):
        for name in order:
            sample = _sample(case, steps[name], results[name].repeats)
            results[name].samples.append(sample)
    log(f'{rounds} rounds done')
    return BenchmarkResult(
        case=case.describe(),
        unit=case.unit,
        units=case.units,
        reference=reference,
        variants=list(results.values()),
        environment=environment(case.device),
        command=list(sys.argv),
        settings=dict(rounds=rounds, min_seconds=min_seconds),
        flops=_count(steps),
        ceilings=measure_ceilings(case) if ceilings else None,
    )


def _warm_up(
    case: Case, results: Dict[str, VariantResult], compile_backend: str, log
) -> Dict[str, Step]:
    """Build the variants, run each a few times, measure its memory."""
    steps: Dict[str, Step] = {}
    for name, result in results.items():
        result.reason = why_not(name, case)
        if result.reason:
            continue
        log(f'warming up {name}')
        try:
            step = make_step(name, case, compile_backend)
            _run_first(case, step, result)
        except (RuntimeError, OSError) as error:
            # No compiler, too little memory: the others can still be timed.
            logging.getLogger('halvit_mm').exception('%s failed', name)
            line = str(error).strip().partition('\n')[0]
            result.fail(f'{type(error).__name__}: {line}')
        else:
            steps[name] = step
    return steps


def _run_first(case: Case, step: Step, result: VariantResult) -> None:
    result.first_seconds = sum(_sample(case, step, 1).values()) / 1e3
    for _ in range(_WARM_UP):
        _sample(case, step, 1)
    if case.mode == 'train':
        result.saved = saved_bytes(step.forward, step.module)
    if torch.device(case.device).type == 'cuda':
        result.peak_bytes = _peak_bytes(case, step)


def _peak_bytes(case: Case, step: Step) -> int:
    torch.cuda.synchronize(case.device)
    torch.cuda.reset_peak_memory_stats(case.device)
    before = torch.cuda.memory_allocated(case.device)
    _sample(case, step, 1)
    return torch.cuda.max_memory_allocated(case.device) - before


def _repeats(case: Case, step: Step, min_seconds: float) -> int:
    seconds = sum(_sample(case, step, 1).values()) / 1e3
    return max(1, math.ceil(min_seconds / seconds))


def _sample(case: Case, step: Step, repeats: int) -> Dict[str, float]:
    """Returns: Phase -> milliseconds a step. Gradients are dropped."""
    clock = Clock(case.device)
    for _ in range(repeats):
        step(clock.mark)
    phases = clock.phases()
    step.zero_grad()
    return {name: ms / repeats for name, ms in phases.items()}


def _count(steps: Dict[str, Step]) -> Optional[int]:
    """Operations of a step, counted on a variant that runs eagerly."""
    for name, step in steps.items():
        variant = VARIANTS[name]
        if not (variant.is_compiled or variant.cuda_only):
            flops = count_flops(step)
            step.zero_grad()
            return flops
    return None
