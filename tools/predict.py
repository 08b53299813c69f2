"""Draw the detections of a trained model on images and videos.

    predict.py MODEL SOURCE [--out DIR] [--score 0.5] [--json]

MODEL is a file of weights that names its model (of compress.py or
dense_from_fips.py), another checkpoint with --config, or the folder of a
training. SOURCE is an image, a folder, a video, a pattern such as
"photos/**/*.jpg" or a COCO JSON. The exit status is 1 if something could not
be read or written; all else is done.
"""

import argparse
import contextlib
import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from halvit_mm.apis import Predictor
from halvit_mm.apis.cli import add_unsafe_load, errors_in_short
from halvit_mm.visualization import load_supervision


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('model', help='weights, or the folder of a training')
    parser.add_argument(
        'source', help='image, folder, video, pattern in quotes or COCO JSON'
    )
    parser.add_argument(
        '--config', help='of the model, where its file does not name it'
    )
    parser.add_argument(
        '--images', help="folder of a COCO JSON's images; by default its own"
    )
    parser.add_argument(
        '--out', default='work_dirs/predict', help='output folder'
    )
    parser.add_argument(
        '--score', type=float, default=0.5, help='least one of a detection'
    )
    parser.add_argument(
        '--json', action='store_true', help="write COCO's results as well"
    )
    parser.add_argument(
        '--device', help='by default the GPU, where there is one'
    )
    add_unsafe_load(parser)
    return parser.parse_args()


@contextlib.contextmanager
def interruptions_in_short(out):
    try:
        yield
    except KeyboardInterrupt:
        print(f'interrupted: what was done is in {out}', file=sys.stderr)
        sys.exit(130)  # as shells do


@errors_in_short()
def main():
    args = parse_args()
    load_supervision()  # before anything takes time
    predictor = Predictor(args.model, args.config, args.device)
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar, interruptions_in_short(args.out):
        task = bar.add_task('predict', total=None)
        summary = predictor.save(
            args.source,
            args.out,
            args.score,
            args.json,
            args.images,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(
        f'{summary.objects} detections with a score of {args.score} or more '
        f'on {summary.images} images: {args.out}'
    )
    if summary.skipped:
        sys.exit(
            f'{len(summary.skipped)} files could not be read, wholly or in '
            'part: see the lines above'
        )


if __name__ == '__main__':
    main()
