"""Prove the CUDA operators on one GPU, in one call of about ten minutes.

    gpu_proof.py --out work_dirs/gpu_proof
    gpu_proof.py --dry-run --out /tmp/proof
    gpu_proof.py --only build layers --out work_dirs/gpu_proof

Builds the library in place, tests and profiles it, and times models. Each
step runs in a process of its own, for a limited time; one that fails or lacks
something says so, and the next one runs. PyTorch is enough; steps that need
pytest, the CUDA toolkit or the hosts are skipped without them. Writes
proof.json, proof.md and proof.log after each step. The exit status is 1 if a
step failed. With --out docs/benchmarks/gpu_proof, `benchmark.py page` takes
the results into docs/benchmarks.md.
"""

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from proof.report import proof_markdown, steps_table
from proof.runner import Outcome, preload, run_step
from proof.steps import STEPS


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--out', type=Path, default='work_dirs/gpu_proof', help='folder'
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='everything on the CPU with tiny sizes, to try the script',
    )
    parser.add_argument('--only', nargs='+', choices=STEPS, default=[*STEPS])
    parser.add_argument('--skip', nargs='+', choices=STEPS, default=[])
    parser.add_argument(
        '--timeout', type=float, help='seconds of a step, instead of its own'
    )
    parser.add_argument(
        '--minutes',
        type=float,
        default=9.5,
        help='of all steps; what does not fit is ended or left out',
    )
    return parser.parse_args()


def run_one(step, args, left: float) -> Outcome:
    """Run a step, or say why not.

    Args:
        step: The step.
        args: Of the command line.
        left: Seconds that are left for all steps.

    Returns:
        How it ended.
    """
    reason = ''
    if step.name not in args.only or step.name in args.skip:
        reason = 'not chosen'
    elif args.dry_run and step.gpu_only:
        reason = 'dry run'
    elif left <= 0:
        reason = f'no time is left of {args.minutes:g} minutes'
    if reason:
        return Outcome(step.name, step.what, 'skipped', reason)
    limit = min(args.timeout or step.seconds, left)
    return run_step(step, args.dry_run, limit, args.out / 'proof.log')


def main():
    args = parse_args()
    # An exit ends the step that runs, with all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('terminated'))
    preload()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'proof.log').write_text('')
    proof = dict(command=sys.argv, dry_run=args.dry_run, steps=[])
    end = time.monotonic() + 60 * args.minutes
    for step in STEPS.values():
        outcome = run_one(step, args, end - time.monotonic())
        reason = f': {outcome.reason}' if outcome.reason else ''
        took = f'{outcome.seconds:.0f} s'
        print(f'{step.name} {outcome.status}, {took}{reason}', flush=True)
        if outcome.log:
            print(outcome.log, flush=True)
        proof['steps'].append(asdict(outcome))
        text = json.dumps(proof, indent=1)
        (args.out / 'proof.json').write_text(f'{text}\n')
        (args.out / 'proof.md').write_text(f'{proof_markdown(proof)}\n')
    print(f'\n{proof_markdown(proof)}\n\n{steps_table(proof)}')
    print(f'written to {args.out}')
    sys.exit(any(step['status'] == 'failed' for step in proof['steps']))


if __name__ == '__main__':
    main()
