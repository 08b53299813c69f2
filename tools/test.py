"""Evaluate a checkpoint of a detector or a classifier."""

import argparse

from halvit_mm.apis import test
from halvit_mm.apis.cli import (
    add_run_arguments,
    errors_in_short,
    read_config,
)
from halvit_mm.compression import EXECUTIONS


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights of the whole model')
    parser.add_argument(
        '--execution',
        choices=EXECUTIONS,
        help='of a compressed backbone; by default its products are kept',
    )
    add_run_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = read_config(
        args.config,
        args.cfg_options,
        work_dir=args.work_dir,
        launcher=args.launcher,
        checkpoint=args.checkpoint,
    )
    with errors_in_short():
        test(cfg, args.checkpoint, args.amp, args.execution)


if __name__ == '__main__':
    main()
