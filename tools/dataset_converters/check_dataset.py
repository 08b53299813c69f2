"""Check annotations in COCO's format against their images.

Says what there is, what training and evaluation would mend, and what has to be
corrected. The exit status is 1 if the data cannot be used as they are.
"""

import argparse
import sys
from pathlib import Path

# The checks need neither PyTorch nor a host, which take seconds to import:
# only what is in this folder is imported, and not the package around it.
ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'halvit_mm' / 'datasets'))

from coco_check import (  # noqa: E402
    DataError,
    check_images,
    fix_images,
    read_coco,
    write_coco,
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('annotations', help='JSON file')
    parser.add_argument('images', help='folder of the images')
    parser.add_argument(
        '--decode',
        action='store_true',
        help='decode every image, not only its header',
    )
    parser.add_argument(
        '--ignore-orientation',
        action='store_true',
        help='images are loaded without their EXIF orientation',
    )
    parser.add_argument(
        '--fix',
        metavar='OUT',
        help='write the mended annotations to this file',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    for stream in (sys.stdout, sys.stderr):  # names in any script
        stream.reconfigure(errors='backslashreplace')
    oriented = not args.ignore_orientation
    try:
        file = read_coco(args.annotations, args.images)
        if args.fix:
            fix_images(file, args.images, oriented, args.decode)
        unreadable = check_images(
            file, args.images, oriented, None, args.decode
        )
        if args.fix and file.images:
            write_coco(file, args.fix)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(file.describe())
    for line in file.findings.lines():
        print(line)
    try:
        file.require_objects()
        file.require_masks()
        file.require_eight_bits()
    except DataError as error:
        sys.exit(f'error: {error}')
    if unreadable:
        sys.exit(
            'error: evaluation ends at an image that cannot be read: copy '
            'them again, or leave them out by --fix OUT'
        )
    print(f'written to {args.fix}' if args.fix else 'ready to be trained on')


if __name__ == '__main__':
    main()
