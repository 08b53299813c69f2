"""Make a trained ViT, DeiT, Swin or HaLViT smaller, without labels.

    compress.py CONFIG CHECKPOINT --budget 0.5 --out DIR
    compress.py CONFIG CHECKPOINT --how prune --budget 0.5 --out DIR

By FiPS weights become products of shared bases and sparse factors; pruning
removes hidden units of the FFNs. CONFIG is that of a classifier or detector;
settings may stand in it as ``fips`` (configs/fips) or ``prune``, otherwise the
groups are found from the architecture. CHECKPOINT holds the model, or its
backbone, also of another project. DIR gets compressed.safetensors, a config
that builds the smaller model, and a report. A run that was interrupted goes on
when it is started again.
"""

import argparse
from pathlib import Path

from halvit_mm.apis.cli import (
    add_config_options,
    add_unsafe_load,
    errors_in_short,
    read_config,
)
from halvit_mm.apis.compress import (
    WAYS,
    LiveErrors,
    compress_checkpoint,
    print_plan,
    read_settings,
)
from halvit_mm.checkpoint import read_header
from halvit_mm.compression import METHODS


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file of the model')
    parser.add_argument('checkpoint', help='weights of it or of its backbone')
    parser.add_argument('--out', required=True, help='output folder')
    parser.add_argument('--how', choices=list(WAYS), default='fips')
    parser.add_argument(
        '--budget', type=float, help='share of the parameters that is kept'
    )
    parser.add_argument(
        '--attention',
        action='store_true',
        default=None,
        help="FiPS: the attentions' matrices as well",
    )
    parser.add_argument('--sparsity', type=float, help="of FiPS's factors")
    parser.add_argument('--method', choices=list(METHODS), help='of FiPS')
    parser.add_argument('--epochs', type=int, help='of the calibration')
    parser.add_argument('--images', type=int, help='to calibrate on')
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
    config = read_settings(
        cfg,
        args.how,
        args.images,
        budget=args.budget,
        attention=args.attention,
        sparsity=args.sparsity,
        method=args.method,
        epochs=args.epochs,
    )
    out = Path(args.out)
    with LiveErrors() as live:

        def plan(compression, plans):
            print_plan(compression, plans, out)
            live.start()

        result = compress_checkpoint(
            cfg, args.checkpoint, config, out, plan, live.update, args.device
        )
    print(
        f'{result.original_bytes / 1e6:.2f} MB -> '
        f'{result.file_bytes / 1e6:.2f} MB: {out}/compressed.safetensors'
    )
    before, after = result.summed_errors
    print(f'error of the units, summed: {before:.4f} -> {after:.4f}')
    if after > before:
        print(
            f'the calibration made it worse: give it more steps ({args.how}.'
            f'epochs, {args.how}.num_batches) or another {args.how}.lr'
        )
    unseen = [e for e in result.errors if e.held_out is not None]
    if unseen:
        worst = max(unseen, key=lambda error: error.held_out)
        print(
            f'on held-out images at most {worst.held_out:.4f}, in {worst.name}'
        )
    print(f'the report: {out}/report.md')
    files = f'{out}/config.py {out}/compressed.safetensors'
    if read_header(out / 'compressed.safetensors')['model'] is None:
        print(f'train a model on it: python tools/train.py {out}/config.py')
    else:
        print(f'its scores: python tools/test.py {files}')
        if 'roi_head' in cfg.model:
            file = files.split()[1]
            print(f'its pictures: python tools/predict.py {file} PHOTOS')


if __name__ == '__main__':
    main()
