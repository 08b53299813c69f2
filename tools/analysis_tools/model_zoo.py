"""Write configs/metafile.yml, docs/model_zoo.md and its picture."""

import argparse
from pathlib import Path

from zoo.models import load_zoo, measure_zoo
from zoo.picture import draw_zoo
from zoo.report import write_metafile, write_page, zoo_points

from halvit_mm.apis.cli import errors_in_short

ROOT = Path(__file__).resolve().parents[2]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--latency', action='store_true', help='time each model on the CPU'
    )
    parser.add_argument(
        '--repeats',
        type=int,
        default=9,
        help='turns of each model that are timed, of three passes',
    )
    parser.add_argument('--root', type=Path, default=ROOT, help='repository')
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    configs, docs = args.root / 'configs', args.root / 'docs'
    if args.latency:
        measure_zoo(configs, args.repeats)
    zoo = load_zoo(configs)
    write_metafile(zoo, configs / 'metafile.yml')
    write_page(zoo, docs / 'model_zoo.md', 'images/model_zoo.png')
    draw_zoo(*zoo_points(zoo), str(docs / 'images' / 'model_zoo.png'))


if __name__ == '__main__':
    main()
