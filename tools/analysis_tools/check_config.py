"""Check that configs load, build, and survive steps on noise."""

import argparse
import itertools
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

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
    parser.add_argument(
        '--batch',
        type=int,
        nargs='+',
        default=[2],
        help='images a step; several numbers are tried in turn',
    )
    parser.add_argument('--device', default='cpu', help='such as cuda')
    parser.add_argument('--steps', type=int, default=1, help='steps')
    add_amp_argument(parser)
    add_config_options(parser)
    return parser.parse_args()


def check(path, batch, args):
    """Check a config with a number of images a step."""
    cfg = load_config(path, args.cfg_options, amp=args.amp, read_data=False)
    return check_config(cfg, args.shape, batch, args.steps, args.device)


def check_apart(*args):
    """The same in a process of its own, whose memory is that of this check."""
    fork = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(1, fork) as pool:
        return pool.submit(check, *args).result()


def main():
    args = parse_args()
    run = check_apart if args.device == 'cpu' else check
    failures = 0
    for path, batch in itertools.product(args.config, args.batch):
        try:
            result = run(path, batch, args)
        except Exception as error:  # reported for each, then failed
            failures += 1
            print(f'FAILED {path}: {type(error).__name__}: {error}')
        else:
            text = ', '.join(f'{k} {v:.3f}' for k, v in result.losses.items())
            print(
                f'ok     {path}: batch {batch}, '
                f'{result.seconds:.3g} s a step, '
                f'{batch / result.seconds:.2f} images/s, '
                f'peak {result.peak_gib:.2f} GiB, {text}'
            )
    sys.exit(failures > 0)


if __name__ == '__main__':
    main()
