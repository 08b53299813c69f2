"""Write the dense weights of a compressed model, under the original's names.

dense_from_fips.py DIR/config.py DIR/compressed.safetensors dense.pth
dense_from_fips.py DIR/config.py work_dirs/finetuned/epoch_12.pth dense.pth

The original's config and every tool of MMDetection and MMPretrain load the
result; it is as large and as fast as the original.
"""

import argparse
import sys
from pathlib import Path

from halvit_mm.apis import load_config
from halvit_mm.apis.compress import save_dense


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of the compressed model')
    parser.add_argument('source', help='compressed file or checkpoint')
    parser.add_argument('target', help='.pth or .safetensors file to write')
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        cfg = load_config(args.config)
        number = save_dense(cfg, args.source, Path(args.target))
    except (OSError, ValueError) as error:
        sys.exit(f'{error}')
    print(f'{args.target}: {number} weights')


if __name__ == '__main__':
    main()
