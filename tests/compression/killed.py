"""Run by test_killed_processes.py: calibrates and says every step.

killed.py FOLDER OUT
"""

import copy
import sys
from pathlib import Path

from halvit_mm.compression import (
    Calibration,
    calibrate,
    passes_of,
    prepare,
    save_compressed,
)
from tests.compression.models import GROUPS, Net, batches

SETTINGS = Calibration(
    epochs=10, lr=3e-3, sparsity=0.5, interval=3, save_interval=2
)


def main(folder: str, out: str):
    original = Net()
    model = copy.deepcopy(original)
    parts = prepare(model, GROUPS, 0.6, SETTINGS.sparsity)
    calibrate(
        model,
        original,
        passes_of(original, GROUPS, SETTINGS.prune_scope),
        batches(),
        SETTINGS,
        Path(folder),
        lambda progress: print(
            progress.passes_done, progress.step, flush=True
        ),
    )
    save_compressed(model, [part.structure for part in parts], Path(out))


if __name__ == '__main__':
    main(*sys.argv[1:])
