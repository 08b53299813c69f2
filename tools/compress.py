"""Compress a trained model by FiPS: shared bases and sparse factors.

    compress.py CONFIG CHECKPOINT --budget 0.4 --out DIR

CONFIG is a model's config with ``fips`` in it (configs/fips). DIR gets
compressed.safetensors, a config that builds the compressed model, and a
report. A run that was interrupted goes on when it is started again.
"""

import argparse
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from halvit_mm.apis.cli import (
    add_config_options,
    add_unsafe_load,
    errors_in_short,
    read_config,
)
from halvit_mm.apis.compress import compress_checkpoint, print_plan
from halvit_mm.compression import METHODS, FiPSConfig


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file with fips=dict(...)')
    parser.add_argument('checkpoint', help='weights of the whole model')
    parser.add_argument('--out', required=True, help='output folder')
    parser.add_argument(
        '--budget', type=float, help='share of the parameters that is kept'
    )
    parser.add_argument('--sparsity', type=float, help='of the factors')
    parser.add_argument('--method', choices=list(METHODS))
    parser.add_argument('--epochs', type=int, help='of the calibration')
    parser.add_argument(
        '--device', help='by default the GPU, where there is one'
    )
    add_config_options(parser)
    add_unsafe_load(parser)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    config = FiPSConfig.from_mapping(
        cfg.get('fips'),
        budget=args.budget,
        sparsity=args.sparsity,
        method=args.method,
        epochs=args.epochs,
    )
    out = Path(args.out)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns)
    task = bar.add_task('calibrate', total=None)
    errors = {}

    def render():
        table = Table('unit', 'error now')
        for unit, error in errors.items():
            table.add_row(unit, f'{error:.4f}')
        return Group(bar, table)

    live = Live(get_renderable=render)

    def plan(compression, plans):
        print_plan(compression, plans, out)
        steps = config.epochs * config.num_batches
        bar.update(task, total=steps * len(plans))
        live.start()

    def report(progress):
        errors.update(progress.losses)
        bar.update(
            task,
            completed=progress.passes_done * progress.total + progress.step,
        )

    try:
        result = compress_checkpoint(
            cfg, args.checkpoint, config, out, plan, report, args.device
        )
    finally:
        live.stop()
    print(
        f'{result.original_bytes / 1e6:.2f} MB -> '
        f'{result.file_bytes / 1e6:.2f} MB: {out}/compressed.safetensors'
    )
    before, after = result.summed_errors
    print(f'error of the units, summed: {before:.4f} -> {after:.4f}')
    if after > before:
        print(
            'the calibration made it worse: give it more steps (fips.epochs, '
            'fips.num_batches) or another fips.lr'
        )
    print(f'the report: {out}/report.md')


if __name__ == '__main__':
    main()
