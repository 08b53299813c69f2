"""Run by test_killed_processes.py: calibrates and says every step.

killed.py FOLDER OUT
"""

import sys
from pathlib import Path

from halvit_mm.compression import FiPSConfig, save_compressed
from tests.compression.models import GROUPS, Net, batches, compress

CONFIG = FiPSConfig(
    GROUPS,
    budget=0.6,
    sparsity=0.5,
    epochs=10,
    lr=3e-3,
    interval=3,
    save_interval=2,
)


def main(folder: str, out: str):
    def report(progress):
        print(progress.passes_done, progress.step, flush=True)

    compression, _ = compress(CONFIG, Path(folder), Net(), batches(), report)
    save_compressed(compression.model, compression.structures, Path(out))


if __name__ == '__main__':
    main(*sys.argv[1:])
