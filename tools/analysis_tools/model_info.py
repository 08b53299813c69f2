"""Print parameters, file size and multiply-adds of a config's model."""

import argparse
import json
from pathlib import Path

from halvit_mm.apis import model_info, narrow_config, print_model_info
from halvit_mm.apis.cli import (
    add_config_options,
    add_shape_argument,
    errors_in_short,
    read_config,
)
from halvit_mm.apis.fake_data import image_size
from halvit_mm.apis.model_info import build_model, forward_pass
from halvit_mm.apis.timing import device_name, time_in_turns


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='+', help='config file(s)')
    add_shape_argument(parser, 'what the config tests with')
    parser.add_argument(
        '--latency',
        action='store_true',
        help='time forward passes on the CPU, several configs in turns',
    )
    parser.add_argument(
        '--batch', type=int, default=1, help='images in a pass, default 1'
    )
    parser.add_argument(
        '--narrow-to',
        type=int,
        metavar='PARAMETERS',
        help='say which options make the model as small by fewer channels',
    )
    parser.add_argument('--json', type=Path, help='file for the latencies')
    add_config_options(parser)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    passes = {}
    for path in args.config:
        cfg = read_config(path, args.cfg_options, read_data=False)
        size = tuple(args.shape) if args.shape else image_size(cfg)
        print_model_info(path, size, model_info(cfg, size))
        if args.narrow_to:
            arch = narrow_config(cfg, args.narrow_to).model.backbone.arch
            print(f'no more than {args.narrow_to:,} parameters: arch={arch}')
        if args.latency:
            passes[path] = forward_pass(
                cfg, size, build_model(cfg), args.batch
            )
    device = device_name()
    times = time_in_turns(passes, rounds=3, in_a_row=3)
    for path, seconds in times.items():
        print(
            f'latency {seconds * 1e3:.0f} ms, {args.batch / seconds:.2f} '
            f'images/s on {device}: {path}'
        )
    if args.json:
        content = dict(device=device, batch=args.batch, seconds=times)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    main()
