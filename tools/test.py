"""Evaluate a checkpoint of a detector or a classifier."""

import argparse

from halvit_mm.apis import load_config, test
from halvit_mm.apis.cli import add_run_arguments


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights of the whole model')
    add_run_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_config(
        args.config,
        args.cfg_options,
        work_dir=args.work_dir,
        launcher=args.launcher,
    )
    test(cfg, args.checkpoint, args.amp)


if __name__ == '__main__':
    main()
