"""Measure what checking annotations of COCO's size costs at the start.

Makes a file of as many images and objects as COCO train2017 has and reads it
in processes of its own: by `json.load`, and by our reader. Seconds and peak
memory go to `<out>/coco_startup.json`.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from halvit_mm.apis.timing import device_name
from halvit_mm.datasets.coco_check import read_coco

READERS = ('json.load', 'read_coco')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=118_000)
    parser.add_argument('--objects', type=int, default=860_000)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--out', default='docs/benchmarks', help='folder')
    parser.add_argument('--reader', choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument('--file', help=argparse.SUPPRESS)
    return parser.parse_args()


def draw_object(rng: random.Random, number: int, num_images: int) -> dict:
    """Make an annotation: a polygon of 8 to 59 points, 1 % crowds."""
    x, y = rng.uniform(0, 400), rng.uniform(0, 300)
    w, h = rng.uniform(5, 200), rng.uniform(5, 150)
    points = []
    for _ in range(rng.randint(8, 59)):
        points += [x + rng.random() * w, y + rng.random() * h]
    crowd = int(number % 100 == 0)
    mask = [[round(p, 2) for p in points]]
    return dict(
        id=number,
        image_id=rng.randint(1, num_images),
        category_id=rng.randint(1, 80),
        bbox=[round(v, 2) for v in (x, y, w, h)],
        area=w * h / 2,
        iscrowd=crowd,
        segmentation=dict(size=[480, 640], counts=[307200]) if crowd else mask,
    )


def write_annotations(path: Path, num_images: int, num_objects: int) -> None:
    """Write a file of COCO's structure from a seed, object by object."""
    rng = random.Random(0)
    address = 'http://images.cocodataset.org/train2017/'
    names = [f'{i:012d}.jpg' for i in range(1, num_images + 1)]
    images = [
        dict(
            id=i,
            file_name=name,
            coco_url=address + name,
            width=640,
            height=480,
            date_captured='2013-11-14 11:18:45',
        )
        for i, name in enumerate(names, 1)
    ]
    categories = [dict(id=i, name=f'class {i}') for i in range(1, 81)]
    with path.open('w') as file:
        file.write(f'{{"images": {json.dumps(images)}, "categories": ')
        file.write(f'{json.dumps(categories)}, "annotations": [')
        for number in range(1, num_objects + 1):
            file.write(', ' * (number > 1))
            file.write(json.dumps(draw_object(rng, number, num_images)))
        file.write(']}')


def read(reader: str, path: str) -> None:
    """Read the file in this process and print seconds and peak memory."""
    start = time.perf_counter()
    if reader == 'json.load':
        with open(path) as file:
            json.load(file)
    else:
        read_coco(path)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(seconds=seconds, peak_bytes=peak)))


def main():
    args = parse_args()
    if args.reader:
        read(args.reader, args.file)
        return
    found = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'annotations.json'
        write_annotations(path, args.images, args.objects)
        size = path.stat().st_size
        for _ in range(args.rounds):
            for reader in READERS:  # in turns
                command = [sys.executable, __file__, '--reader', reader]
                result = subprocess.run(
                    [*command, '--file', str(path)],
                    capture_output=True,
                    check=True,
                )
                found[reader].append(
                    json.loads(result.stdout.split(b'\n')[-2])
                )
    content = dict(
        device=device_name(),
        images=args.images,
        objects=args.objects,
        file_bytes=size,
        runs=found,
    )
    target = Path(args.out) / 'coco_startup.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=1))
    for reader, runs in found.items():
        seconds = ', '.join(f'{run["seconds"]:.1f}' for run in runs)
        peak = max(run['peak_bytes'] for run in runs) / 1e9
        print(f'{reader}: {seconds} s, peak {peak:.2f} GB')
    print(f'written to {target}')


if __name__ == '__main__':
    main()
