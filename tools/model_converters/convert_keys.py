"""Rename the weights of another project's ViT for ours, or back.

convert_keys.py deit_base.pth vit_b.safetensors
convert_keys.py vit_b.safetensors deit_base.safetensors --to timm

Without --from, the project is told from the names. mmpretrain's names are
ours; a distillation token becomes a register.
"""

import argparse
import sys
from pathlib import Path

from halvit_mm.checkpoint import (
    KEY_MAPS,
    find_origin,
    from_ours,
    read_weights,
    save_weights,
    to_ours,
    trust_files,
)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', help='checkpoint, .pth or .safetensors')
    parser.add_argument('target', help='.safetensors or .pth file to write')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--from', dest='origin', choices=KEY_MAPS)
    group.add_argument('--to', choices=KEY_MAPS)
    parser.add_argument(
        '--unsafe-load',
        action='store_true',
        help='let the source run the code that is in it',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    if args.unsafe_load:
        trust_files()
    try:
        state, header, classes = read_weights(args.source)
        if args.to:
            state = from_ours(state, args.to)
        else:
            origin = args.origin or find_origin(state)
            if origin is None:
                raise ValueError(
                    f'{args.source}: these are not the names of a ViT of '
                    f'{", ".join(KEY_MAPS)}: {list(state)[:3]}'
                )
            print(f'{args.source}: the names of {origin}')
            state = to_ours(state, origin)
        palette = (header or {}).get('palette')
        save_weights(
            Path(args.target), state, classes=classes, palette=palette
        )
    except (OSError, ValueError) as error:
        sys.exit(f'{error}')
    print(f'{args.target}: {len(state)} weights')


if __name__ == '__main__':
    main()
