"""Print parameters, file size and multiply-adds of a config's model."""

import argparse

from halvit_mm.apis import load_config, model_info, print_model_info
from halvit_mm.apis.cli import add_config_options, add_shape_argument
from halvit_mm.apis.fake_data import image_size
from halvit_mm.apis.model_info import measure_latency


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='+', help='config file(s)')
    add_shape_argument(parser, 'what the config tests with')
    parser.add_argument(
        '--latency', action='store_true', help='time the forward pass (CPU)'
    )
    add_config_options(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    for path in args.config:
        cfg = load_config(path, args.cfg_options, read_data=False)
        size = tuple(args.shape) if args.shape else image_size(cfg)
        print_model_info(path, size, model_info(cfg, size))
        if args.latency:
            print(f'latency {measure_latency(cfg, size) * 1e3:.0f} ms, CPU')


if __name__ == '__main__':
    main()
