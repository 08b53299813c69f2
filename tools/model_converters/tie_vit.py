r"""Start a HaLViT from a trained ViT of the same architecture.

    tie_vit.py configs/pretrain/halvit_t_signed_in1k.py VIT.pth --out DIR
    train.py configs/pretrain/halvit_t_signed_in1k.py \
        --cfg-options load_from=DIR/tied.safetensors

Tied matrices are fitted to those of the ViT and calibrated block by block on
training images, without labels. The result is a start for training: a tied
layer cannot do what an untied one does. A run that was interrupted goes on
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
from halvit_mm.apis.compress import LiveErrors, read_settings, tie
from halvit_mm.apis.table import Table


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='of a classifier or detector, tied')
    parser.add_argument('checkpoint', help='of its untied twin or a backbone')
    parser.add_argument('--out', required=True, help='output folder')
    parser.add_argument('--images', type=int, help='to calibrate on')
    parser.add_argument('--epochs', type=int, help='of the calibration')
    add_config_options(parser)
    add_unsafe_load(parser)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    config = read_settings(cfg, 'tie', args.images, epochs=args.epochs)
    with LiveErrors() as live:
        live.start()
        errors = tie(cfg, args.checkpoint, config, Path(args.out), live.update)
    rows = [
        {
            'unit': error.name,
            'fitted': f'{error.before:.4f}',
            'calibrated': f'{error.after:.4f}',
            'on held-out images': f'{error.held_out:.4f}'
            if error.held_out is not None
            else '-',
        }
        for error in errors
    ]
    Table(rows, title="errors, relative to the energy of the ViT's").print()
    print(
        f'train it: python tools/train.py {args.config} --cfg-options '
        f'load_from={args.out}/tied.safetensors'
    )


if __name__ == '__main__':
    main()
