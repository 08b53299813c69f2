"""Check that configs load, build, and survive steps on noise."""

import argparse
import sys

from halvit_mm.apis import load_config
from halvit_mm.apis.check import check_config
from halvit_mm.apis.cli import (
    add_amp_argument,
    add_config_options,
    add_shape_argument,
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='+', help='config file(s)')
    add_shape_argument(parser, 'a small one')
    parser.add_argument('--images', type=int, default=2, help='images a step')
    parser.add_argument('--steps', type=int, default=1, help='steps')
    add_amp_argument(parser)
    add_config_options(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    failures = 0
    for path in args.config:
        try:
            cfg = load_config(
                path, args.cfg_options, amp=args.amp, read_data=False
            )
            check = check_config(cfg, args.shape, args.images, args.steps)
        except Exception as error:  # reported for each config, then failed
            failures += 1
            print(f'FAILED {path}: {type(error).__name__}: {error}')
        else:
            text = ', '.join(f'{k} {v:.3f}' for k, v in check.losses.items())
            print(
                f'ok     {path}: {check.seconds:.2f} s a step, '
                f'peak {check.peak_gib:.1f} GiB, {text}'
            )
    sys.exit(failures > 0)


if __name__ == '__main__':
    main()
