"""Time the variants of a case side by side."""

import logging
import math
import platform
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence

import torch

from halvit_mm import ops
from halvit_mm.apis.model_info import flop_counter
from halvit_mm.apis.timing import device_name, round_robin
from halvit_mm.version import __version__

from .cases import Case
from .result import BenchmarkResult, VariantResult
from .roofline import measure_roofline
from .saved import saved_bytes
from .steps import Step
from .variants import VARIANTS, choose_variants, make_step, why_not

_WARM_UP = 2  # steps after the first


def run_benchmark(
    case: Case,
    variants: Optional[Sequence[str]] = None,
    reference: Optional[str] = None,
    rounds: int = 15,
    min_seconds: float = 0.1,
    compile_backend: str = 'inductor',
    roofline: bool = True,
    log: Callable[[str], None] = lambda line: None,
) -> BenchmarkResult:
    """Time variants of a case in one process, in turns.

    Args:
        case: The case to compute.
        variants: Names of variants; by default those that the level runs
            unless others are chosen.
        reference: The variant that the others are compared with; by default
            ``untied``, or the first one without it.
        rounds: Number of rounds; each runs every variant once.
        min_seconds: Least length of a sample, which is the mean of as many
            steps as it takes.
        compile_backend: The backend of ``torch.compile``.
        roofline: Whether plain products and copies are timed as well.
        log: Called with lines that say what is going on.

    Returns:
        The samples and measures of each variant; one that cannot run has a
        reason instead.

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
            f'rounds={rounds} must be at least 1 and '
            f'min_seconds={min_seconds} not negative'
        )
    torch.compiler.reset()  # nothing that was compiled before is left
    ops.backend()  # loads the library, for all variants alike
    results = {name: VariantResult(name) for name in names}
    steps = _warm_up(case, results, compile_backend, log)
    for name, step in steps.items():
        seconds = sum(step.time().values()) / 1e3
        results[name].repeats = max(1, math.ceil(min_seconds / seconds))
    for order in round_robin(list(steps), rounds):
        for name in order:
            sample = steps[name].time(results[name].repeats)
            results[name].samples.append(sample)
    log(f'{rounds} rounds done')
    return BenchmarkResult(
        case=case.describe(),
        reference=reference,
        variants=list(results.values()),
        environment=_environment(case),
        command=['tools/analysis_tools/benchmark.py', *sys.argv[1:]],
        settings=dict(rounds=rounds, min_seconds=min_seconds),
        flops=_count(steps),
        roofline=measure_roofline(case) if roofline else None,
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
            measured = _run_first(case, step)
        except (RuntimeError, OSError) as error:
            # No compiler, too little memory: the others can still be timed.
            logging.getLogger('halvit_mm').exception('%s failed', name)
            line = str(error).strip().partition('\n')[0]
            result.reason = f'{result.FAILED}{type(error).__name__}: {line}'
        else:
            steps[name] = step
            for key, value in measured.items():
                setattr(result, key, value)
    return steps


def _run_first(case: Case, step: Step) -> Dict:
    """Run the first steps and measure what they need, except for time."""
    measured = dict(first_seconds=sum(step.time().values()) / 1e3)
    step.time(_WARM_UP)
    if case.mode == 'train':
        measured['saved'] = saved_bytes(step.forward, step.module)
    if case.device_type == 'cuda':
        torch.cuda.synchronize(case.device)
        torch.cuda.reset_peak_memory_stats(case.device)
        before = torch.cuda.memory_allocated(case.device)
        step.time()
        peak = torch.cuda.max_memory_allocated(case.device)
        measured['peak_bytes'] = peak - before
    return measured


def _count(steps: Dict[str, Step]) -> Optional[int]:
    """Count the operations of a step of a variant that runs eagerly."""
    for name, step in steps.items():
        variant = VARIANTS[name]
        if not (variant.is_compiled or variant.cuda_only):
            with flop_counter() as counter:
                step()
            step.zero_grad()
            return counter.get_total_flops()
    return None


def _environment(case: Case) -> Dict:
    """Versions and settings on which times depend."""
    is_cuda = case.device_type == 'cuda'
    commit = subprocess.run(  # by a shell: there may be no git
        'git describe --always --dirty --abbrev=40',
        cwd=Path(__file__).parent,
        shell=True,
        capture_output=True,
        text=True,
    )
    return dict(
        halvit_mm=__version__,
        commit=commit.stdout.strip() or None,
        device=device_name(case.device),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda if is_cuda else None,
        cudnn=torch.backends.cudnn.version() if is_cuda else None,
        threads=torch.get_num_threads(),
        float32_matmul_precision=torch.get_float32_matmul_precision(),
        operators=ops.backend() if is_cuda else 'fallback',
        operators_reason=ops.backend_reason() if is_cuda else 'on a CPU',
    )
