"""Draw predictions below the ground truth."""

import argparse

from halvit_mm.apis.cli import errors_in_short
from halvit_mm.datasets import read_coco
from halvit_mm.visualization import draw_detections


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('ann_file', help='COCO annotations')
    parser.add_argument('image_dir', help='folder of the images')
    parser.add_argument(
        'results', help='result JSON of tools/test.py (bbox or segm)'
    )
    parser.add_argument('--out', default='detections.png', help='PNG file')
    parser.add_argument('--num-images', type=int, default=6)
    parser.add_argument('--score-thr', type=float, default=0.5)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    skipped = draw_detections(
        args.ann_file,
        args.image_dir,
        args.results,
        args.out,
        args.num_images,
        args.score_thr,
    )
    for line in read_coco(args.ann_file, args.image_dir).findings.lines():
        print(line)
    for what, number in skipped.items():
        print(f'not drawn: {number} {what}')
    print(args.out)


if __name__ == '__main__':
    main()
