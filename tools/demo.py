"""All steps in minutes: draw data, pretrain, train, evaluate, draw pictures.

Every step is a command that you could type; it is printed before it runs.
The complete logs are kept in work_dirs/demo/*.log.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

OUT = Path('work_dirs/demo')
DATA = 'data/shapes/detection'
STEPS = {
    'draw the data': 'tools/dataset_converters/draw_shapes.py '
    '--out data/shapes',
    'check the data': 'tools/dataset_converters/check_dataset.py '
    f'{DATA}/annotations/train.json {DATA}/train',
    'count the models': 'tools/analysis_tools/model_info.py '
    'configs/demo/halvit_shapes.py configs/demo/maskrcnn_halvit_shapes.py',
    'pretrain HaLViT': 'tools/train.py configs/demo/halvit_shapes.py '
    f'--work-dir {OUT}/pretrain',
    'train Mask R-CNN': 'tools/train.py '
    f'configs/demo/maskrcnn_halvit_shapes.py --work-dir {OUT}/detect',
    'evaluate': 'tools/test.py configs/demo/maskrcnn_halvit_shapes.py '
    f'{OUT}/detect/epoch_5.pth --work-dir {OUT}/test',
    'draw the detections': 'tools/analysis_tools/draw_detections.py '
    f'{DATA}/annotations/val.json {DATA}/val {OUT}/test/results.segm.json '
    f'--out {OUT}/detections.png',
    'draw the curves': f'tools/analysis_tools/draw_curves.py {OUT}/detect '
    f'--out {OUT}/curves.png',
}
#: Log lines to show: progress with its ETA, scores, tables, files.
_SHOWN = ('Epoch(', 'loaded', '│', '┏', '┡', '└', '┃', 'data/', '.png')
_HIDDEN = ('Epoch(test)', 'Checkpoints will be saved', 'ann_file', '=')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--verbose', action='store_true', help='show every line'
    )
    return parser.parse_args()


def is_shown(line: str) -> bool:
    return any(text in line for text in _SHOWN) and not any(
        text in line for text in _HIDDEN
    )


def run(number: int, title: str, command: str, verbose: bool) -> float:
    """Run a step; exit if it fails.

    Args:
        number: Number of the step, from 1.
        title: Name of the step.
        command: Script and arguments.
        verbose: Whether to show every line of its output.

    Returns:
        Its duration in seconds.
    """
    python = os.path.relpath(sys.executable)
    print(
        f'\n[{number}/{len(STEPS)}] {title}\n$ {python} {command}', flush=True
    )
    start = time.time()
    log = OUT / f'{number}.log'
    process = subprocess.Popen(
        [sys.executable, *shlex.split(command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with log.open('w') as file:
        for line in process.stdout:
            file.write(line)
            if verbose or is_shown(line):
                print(line.split(' - INFO - ')[-1].rstrip(), flush=True)
    if process.wait():
        print(log.read_text()[-3000:])
        sys.exit(f'FAILED: {title}; the whole log is in {log}')
    return time.time() - start


def last_accuracy() -> float:
    """Read the top-1 accuracy of the pretraining, in per cent."""
    log = sorted((OUT / 'pretrain').glob('*/vis_data/scalars.json'))[-1]
    records = map(json.loads, log.read_text().splitlines())
    return [r['accuracy/top1'] for r in records if 'accuracy/top1' in r][-1]


def main():
    args = parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    seconds = {
        title: run(number, title, command, args.verbose)
        for number, (title, command) in enumerate(STEPS.items(), 1)
    }
    scores = json.loads((OUT / 'test' / 'coco_summary.json').read_text())
    summary = {
        'pretraining accuracy, %': last_accuracy(),
        'box AP': scores['bbox']['AP'],
        'mask AP': scores['segm']['AP'],
        **{f'{title}, s': value for title, value in seconds.items()},
        'all steps, s': sum(seconds.values()),
    }
    (OUT / 'summary.json').write_text(json.dumps(summary, indent=2))
    from halvit_mm.apis.table import Table  # imports PyTorch: not before

    digits = {'%': 1, 'P': 3, 's': 0}  # by the last letter of the name
    rows = [
        {'': name, ' ': f'{value:.{digits[name[-1]]}f}'}
        for name, value in summary.items()
    ]
    rows += [{'': 'pictures', ' ': f'{OUT}/detections.png, {OUT}/curves.png'}]
    Table(rows, 'HaLViT demo: 200 images that it had not seen').print()


if __name__ == '__main__':
    main()
