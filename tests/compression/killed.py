"""Run by test_killed_processes.py: calibrates and says every step."""

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


def main(folder: Path, out: Path, pipe):
    def report(progress):
        pipe.send((progress.passes_done, progress.step))

    compression, _ = compress(CONFIG, folder, Net(), batches(), report)
    save_compressed(compression.model, compression.structures, out)
