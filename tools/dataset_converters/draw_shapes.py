"""Draw the demo's data sets: detection (COCO) and pretraining (folders)."""

import argparse
from pathlib import Path

from halvit_mm.datasets.shapes import draw_detection_split, draw_folder_split


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/shapes', help='folder')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--train', type=int, default=800, help='images')
    parser.add_argument('--val', type=int, default=200, help='images')
    parser.add_argument(
        '--pretrain', type=int, default=2400, help='single objects'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    out = Path(args.out)
    detection, folders = out / 'detection', out / 'classification'
    for i, (split, number) in enumerate(
        (('train', args.train), ('val', args.val))
    ):
        coco = draw_detection_split(
            detection, split, number, seed=args.seed + i
        )
        print(
            f'{detection / split}: {number} images, '
            f'{len(coco["annotations"])} objects'
        )
    for i, (split, number) in enumerate(
        (('train', args.pretrain), ('val', args.pretrain // 8))
    ):
        draw_folder_split(folders, split, number, seed=args.seed + 2 + i)
        print(f'{folders / split}: {number} images of one object')


if __name__ == '__main__':
    main()
