"""Time the tied layers beside other ways to compute them, in one process.

    benchmark.py layer --embed-dims 384 --num-heads 6 --tokens 197 --batch 256
    benchmark.py backbone --arch tiny --batch 8 --mode train infer
    benchmark.py detector configs/maskrcnn_halvit_t.py --shape 800 1344
    benchmark.py layer --grid --dtype bf16
    benchmark.py fips configs/fips/deit_b_fips.py --budget 0.25 --mode infer
    benchmark.py page

Prints a table; writes result.json (raw samples included) and times.png. With
--out docs/benchmarks they are kept for the page, docs/benchmarks.md, which the
last command writes.
"""

import argparse
import sys
from dataclasses import fields
from itertools import product
from pathlib import Path

import torch
from bench import LEVELS
from bench.cases import DTYPES, MODES
from bench.layer_case import grid
from bench.report import print_result, save_result, write_page
from bench.runner import run_benchmark
from bench.variants import VARIANTS

from halvit_mm.apis.cli import add_shape_argument

ROOT = Path(__file__).parents[2]


def add_common_arguments(parser):
    parser.add_argument('--batch', type=int, help='images a step')
    parser.add_argument('--act', help='gelu (by default) or gelu_tanh')
    parser.add_argument(
        '--mode', nargs='+', choices=MODES, default=['train'], help='of a step'
    )
    parser.add_argument(
        '--dtype',
        nargs='+',
        choices=DTYPES,
        help='16 bits by autocast; by default bf16 on a GPU, else fp32',
    )
    parser.add_argument('--device', help='by default cuda, where there is one')
    parser.add_argument(
        '--variants',
        nargs='+',
        choices=VARIANTS,
        help='by default all that the level has but compile-max; '
        + '; '.join(f'{k}: {v.what}' for k, v in VARIANTS.items()),
    )
    parser.add_argument(
        '--reference',
        help='variant for the ratios; by default untied, or the first one',
    )
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument(
        '--min-seconds',
        type=float,
        default=0.1,
        help='least length of a sample, which is the mean of several steps',
    )
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument(
        '--out', type=Path, default='work_dirs/benchmark', help='folder'
    )
    parser.add_argument(
        '--markdown', metavar='FILE', help='append the table to a file'
    )


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    levels = parser.add_subparsers(dest='level', required=True)
    layer = levels.add_parser('layer', help='one encoder layer')
    layer.add_argument('--embed-dims', type=int, help='D')
    layer.add_argument('--num-heads', type=int)
    layer.add_argument('--feedforward-channels', type=int, help='4 D if unset')
    layer.add_argument('--tokens', type=int, help='of an image')
    layer.add_argument(
        '--grid', action='store_true', help='both widths at three sizes'
    )
    layer.add_argument(
        '--force', action='store_true', help='the grid on a CPU'
    )
    backbone = levels.add_parser('backbone', help='HaLViT')
    backbone.add_argument('--arch', help='of HaLViT')
    backbone.add_argument('--img-size', type=int, help='side in pixels')
    detector = levels.add_parser('detector', help='a config')
    detector.add_argument('config', help='config file')
    add_shape_argument(detector, 'what the config tests with')
    fips = levels.add_parser('fips', help='a compressed backbone')
    fips.add_argument('config', help='config file with fips=dict(...)')
    add_shape_argument(fips, 'what the config tests with')
    fips.add_argument(
        '--budget', type=float, help='share of the parameters that is kept'
    )
    for level in (layer, backbone, detector, fips):
        add_common_arguments(level)
    levels.add_parser('page', help='write docs/benchmarks.md')
    return parser.parse_args()


def cases(args):
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    dtypes = args.dtype or ['bf16' if device.startswith('cuda') else 'fp32']
    if args.level == 'layer' and args.grid:
        return grid(device, args.mode, dtypes, args.force, args.act or 'gelu')
    level = LEVELS[args.level]
    known = {field.name for field in fields(level)}
    given = {k: v for k, v in vars(args).items() if v is not None}
    given = {k: v for k, v in given.items() if k in known}
    return [
        level(**{**given, 'mode': mode, 'dtype': dtype, 'device': device})
        for mode, dtype in product(args.mode, dtypes)
    ]


def main():
    args = parse_args()
    if args.level == 'page':
        print(f'written to {write_page(ROOT / "docs")}')
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        chosen = cases(args)
    except (OSError, ValueError) as error:  # of the arguments
        sys.exit(f'benchmark.py: {error}')
    failed = []
    for case in chosen:
        print(case.name, flush=True)
        result = run_benchmark(
            case,
            args.variants,
            args.reference,
            args.rounds,
            args.min_seconds,
            log=lambda line: print(f'  {line}', flush=True),
        )
        print_result(result)
        print(f'written to {save_result(result, args.out, args.markdown)}')
        failed += [v.name for v in result.variants if v.failed]
    sys.exit(bool(failed))


if __name__ == '__main__':
    main()
