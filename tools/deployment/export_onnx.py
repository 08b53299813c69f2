"""Write a model as an ONNX file in which every tied matrix is stored once.

    export_onnx.py MODEL OUT.onnx [--part features] [--check photos/*.jpg]

MODEL is the folder of a training, a file of weights that names its model, or
another checkpoint with --config; a detector (Faster or Mask R-CNN) or a
classifier.
"""

import argparse
from pathlib import Path

from halvit_mm.apis.cli import (
    add_shape_argument,
    add_unsafe_load,
    errors_in_short,
)
from halvit_mm.apis.export import PARTS, export


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('model', help='weights, or the folder of a training')
    parser.add_argument('out', help='file to write, *.onnx')
    parser.add_argument(
        '--config', help='of the model, where its file does not name it'
    )
    parser.add_argument(
        '--part',
        choices=PARTS,
        default='all',
        help='features: the backbone and the neck, without the heads',
    )
    add_shape_argument(parser, 'any size')
    parser.add_argument(
        '--half', action='store_true', help='store matrices in float16'
    )
    parser.add_argument(
        '--program',
        action='store_true',
        help='write the program of torch.export as well, *.pt2',
    )
    parser.add_argument(
        '--check',
        nargs='+',
        default=(),
        metavar='PICTURE',
        help='compare with PyTorch on these; by default on noise',
    )
    add_unsafe_load(parser)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    sentences = export(
        args.model,
        Path(args.out),
        config=args.config,
        part=args.part,
        size=args.shape and tuple(args.shape),
        half=args.half,
        program=args.program,
        pictures=args.check,
    )
    print('\n'.join(sentences))


if __name__ == '__main__':
    main()
