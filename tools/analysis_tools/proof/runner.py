"""Runs steps in processes of their own, each for a limited time.

An illegal access to a GPU's memory ends the process that made it, and a
compiler can hang: neither is to take the other steps with it.
"""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Dict

_LOG_LINES = 20  # of a step that failed, kept in the result

_processes = multiprocessing.get_context('forkserver')


class CannotRunError(Exception):
    """Says why a step cannot run here."""


@dataclass(frozen=True)
class Setup:
    """What a step is given.

    Attributes:
        dry_run: Whether all sizes are tiny and the CPU computes.
        folder: For files; it goes when the step ends.
    """

    dry_run: bool
    folder: Path

    @property
    def device(self) -> str:
        """``'cuda'``, or ``'cpu'`` in a dry run."""
        return 'cpu' if self.dry_run else 'cuda'

    def save(self, data: Dict) -> None:
        """Keep what is measured so far, should the step end early."""
        part = self.folder / 'data.part'
        part.write_text(json.dumps(data))
        part.replace(self.folder / 'data.json')


@dataclass(frozen=True)
class Step:
    """One step of the proof.

    Attributes:
        name: As the command line has it.
        what: A few words for the table.
        function: ``module:name`` of a function, imported in the step's own
            process. It is called with a :class:`Setup` and returns what it
            found. :class:`CannotRunError` says why it is skipped; any other
            error is a failure.
        seconds: How long it may take.
        gpu_only: Whether a dry run leaves it out.
    """

    name: str
    what: str
    function: str
    seconds: float
    gpu_only: bool = False


@dataclass
class Outcome:
    """How a step ended.

    Attributes:
        name, what: Of the step.
        status: ``'done'``, ``'failed'`` or ``'skipped'``.
        reason: Why it is not done.
        seconds: How long it took.
        data: What it found; of a failed step, up to then.
        log: The last lines that a failed step printed.
    """

    name: str
    what: str
    status: str = 'done'
    reason: str = ''
    seconds: float = 0.0
    data: Dict = field(default_factory=dict)
    log: str = ''


def preload() -> None:
    """Import PyTorch once for all steps, before the first one is run.

    Steps are forked from a process that has imported it and used nothing.
    """
    _processes.set_forkserver_preload(['torch'])


def run_step(step: Step, dry_run: bool, seconds: float, log: Path) -> Outcome:
    """Run a step and wait for it.

    Args:
        step: The step.
        dry_run: See :class:`Setup`.
        seconds: The step, with all processes that it started, is ended then.
        log: File to which all that it prints is appended.

    Returns:
        How it ended.
    """
    outcome = Outcome(step.name, step.what)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = _processes.Process(
            target=_call, args=(step.function, Setup(dry_run, folder))
        )
        process.start()
        try:
            process.join(seconds)
            timed_out = process.is_alive()
        finally:  # Ctrl-C does not reach its group
            _end(process)
        outcome.seconds = time.perf_counter() - started
        _read(outcome, folder, process.exitcode)
        if timed_out:
            outcome.status = 'failed'
            outcome.reason = f'it took longer than {round(seconds, 2):g} s'
        printed = folder / 'log'
        text = printed.read_text(errors='replace') if printed.exists() else ''
    if outcome.status == 'failed':
        outcome.log = '\n'.join(text.splitlines()[-_LOG_LINES:])
    with open(log, 'a') as file:
        file.write(f'===== {step.name}: {outcome.status}\n{text}\n')
    return outcome


def _read(outcome: Outcome, folder: Path, exitcode) -> None:
    """Take what the process left in its folder."""
    ended = folder / 'ended.json'
    if ended.exists():
        outcome.status, outcome.reason = json.loads(ended.read_text())
    else:
        outcome.status = 'failed'
        outcome.reason = f'the process ended with exit status {exitcode}'
    data = folder / 'data.json'
    if data.exists():
        outcome.data = json.loads(data.read_text())


def _end(process) -> None:
    """End a process and those that it started, if any is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # which may not have a group yet
    process.join()


def _call(function: str, setup: Setup) -> None:
    """Be the process of a step."""
    os.setsid()  # a group, to be ended with all that it starts
    with open(setup.folder / 'log', 'w') as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    status, reason = 'done', ''
    try:
        setup.save(resolve_name(function)(setup))
    except CannotRunError as skip:
        status, reason = 'skipped', str(skip)
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        line = str(error).strip().partition('\n')[0]
        status, reason = 'failed', f'{type(error).__name__}: {line}'
    sys.stdout.flush()
    (setup.folder / 'ended.json').write_text(json.dumps([status, reason]))
