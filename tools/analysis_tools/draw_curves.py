"""Draw the loss and score curves of a training run."""

import argparse

from halvit_mm.apis.cli import errors_in_short
from halvit_mm.visualization import draw_curves


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='of tools/train.py')
    parser.add_argument('--out', default='curves.png', help='PNG file')
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    draw_curves(args.work_dir, args.out)
    print(args.out)


if __name__ == '__main__':
    main()
