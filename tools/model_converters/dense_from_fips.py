"""Write the dense weights of a compressed model, under the original's names.

dense_from_fips.py DIR/config.py DIR/compressed.safetensors dense.pth
dense_from_fips.py DIR/config.py work_dirs/finetuned/epoch_12.pth dense.pth

The original's config and every tool of MMDetection and MMPretrain load the
result; it is as large and as fast as the original.
"""

import argparse
from pathlib import Path

from halvit_mm.apis.cli import (
    add_unsafe_load,
    errors_in_short,
    read_config,
)
from halvit_mm.apis.compress import save_dense


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of the compressed model')
    parser.add_argument('source', help='compressed file or checkpoint')
    parser.add_argument('target', help='.pth or .safetensors file to write')
    add_unsafe_load(parser)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    cfg = read_config(args.config, None)
    number = save_dense(cfg, args.source, Path(args.target))
    print(f'{args.target}: {number} weights')


if __name__ == '__main__':
    main()
