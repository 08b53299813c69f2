"""Predict on 500 images and a video of 300, and watch the memory.

`make soak` runs it; it is too long for `make test`. Results are kept in
docs/soak/memory.json.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from halvit_mm.apis import Predictor

from ..tiny_detector import make_run

ROOT = Path(__file__).parents[2]
SIZES = ((480, 640), (600, 400), (256, 256))  # height and width, in turns


def draw(number: int) -> np.ndarray:
    """An image of coloured squares."""
    height, width = SIZES[number % len(SIZES)]
    squares = np.random.default_rng(number).integers(
        0, 255, (height // 8, width // 8, 3)
    )
    return cv2.resize(squares.astype(np.uint8), (width, height))


def write_images(folder: Path, number: int) -> Path:
    folder.mkdir()
    for i in range(number):
        assert cv2.imwrite(str(folder / f'{i:04}.jpg'), draw(i))
    return folder


def write_video(path: Path, number: int) -> Path:
    fourcc = cv2.VideoWriter_fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), fourcc, 25, SIZES[0][::-1])
    for i in range(number):
        writer.write(draw(i * len(SIZES)))
    writer.release()
    return path


def resident_megabytes() -> float:
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def watch(predictor: Predictor, source: Path, out: Path) -> dict:
    """Predict with every score written, and read the memory at each image."""
    memory = []

    def progress(done: int, total: int) -> None:
        memory.append(resident_megabytes())

    summary = predictor.save(
        str(source), str(out), 0.0, json=True, progress=progress
    )
    start = memory[len(memory) // 10]  # allocators are warm
    return dict(
        images=summary.images,
        objects=summary.objects,
        after_a_tenth_mb=round(start, 1),
        largest_after_it_mb=round(max(memory[len(memory) // 10 :]), 1),
        at_the_end_mb=round(memory[-1], 1),
        growth=round(memory[-1] / start - 1, 4),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=500)
    parser.add_argument('--frames', type=int, default=300)
    parser.add_argument('--out', default=ROOT / 'docs/soak/memory.json')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'run').mkdir()
        make_run(folder / 'run')
        predictor = Predictor(str(folder / 'run'), device='cpu')
        sources = dict(
            images=write_images(folder / 'images', args.images),
            video=write_video(folder / 'clip.mp4', args.frames),
        )
        results = {
            kind: watch(predictor, source, folder / 'out' / kind)
            for kind, source in sources.items()
        }
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + '\n')
    print(json.dumps(results, indent=1))
    sys.exit(any(result['growth'] > 0.05 for result in results.values()))


if __name__ == '__main__':
    main()
