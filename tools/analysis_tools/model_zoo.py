"""Write configs/metafile.yml, docs/model_zoo.md and its picture."""

import argparse
from pathlib import Path

import yaml

from halvit_mm.apis.model_zoo import (
    load_zoo,
    measure_zoo,
    write_metafile,
    write_page,
)
from halvit_mm.visualization import draw_zoo

ROOT = Path(__file__).parents[2]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--latency', action='store_true', help='time each model on the CPU'
    )
    parser.add_argument(
        '--repeats', type=int, default=9, help='passes that are timed'
    )
    parser.add_argument('--root', type=Path, default=ROOT, help='repository')
    return parser.parse_args()


def main():
    args = parse_args()
    configs, docs = args.root / 'configs', args.root / 'docs'
    entries = load_zoo(configs)
    if args.latency:
        measure_zoo(configs, entries, args.repeats)
        entries = load_zoo(configs)
    write_metafile(entries, configs / 'metafile.yml')
    write_page(entries, docs / 'model_zoo.md', 'images/model_zoo.png')
    others = yaml.safe_load((configs / 'zoo' / 'papers.yml').read_text())
    draw_zoo(
        [
            (e.paper['name'], e.paper['params'], e.paper['top1'])
            for e in entries
            if 'top1' in e.paper
        ],
        [tuple(point) for point in others['others']],
        [
            (e.paper['name'], e.total.stored / 1e6, e.measured['top1'])
            for e in entries
            if 'top1' in e.measured
        ],
        str(docs / 'images' / 'model_zoo.png'),
    )


if __name__ == '__main__':
    main()
