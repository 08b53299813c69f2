"""Give files of a stranger to every tool and to the Python API.

`make soak` runs it. Nothing may be executed, crash, or be written beside the
output; each ends in a sentence that names the file. Results are kept in
docs/soak/hostile.json.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from halvit_mm.datasets.shapes import draw_detection_split

from ..tiny_detector import make_run
from ..tools.conftest import imported, run_script
from . import hostile_data, hostile_text  # noqa: F401, add their cases
from .hostile_files import CASES, HARMLESS
from .results import keep

SECONDS, GIBIBYTES = 120, 16
#: What the commands themselves may write.
OUTPUTS = ('out', 'work', 'call.py', 'fixed.json', 'executed')


def prepare(clean: Path) -> None:
    """A training of three classes of shapes, and results on its images."""
    for split, number in (('train', 4), ('val', 4)):
        draw_detection_split(clean / 'data', split, number, seed=number)
    (clean / 'run').mkdir()
    _, cfg, _ = make_run(clean / 'run')
    (clean / 'run/epoch_2.pth').unlink()
    fixed = "_base_ = 'run/tiny.py'\nclasses = ['circle', 'square']\n"
    (clean / 'fixed.py').write_text(fixed)
    model = cfg.model.to_dict()
    model['backbone']['init_cfg'] = None
    (clean / 'run/model.json').write_text(json.dumps(model))
    truth = json.loads((clean / 'data/annotations/val.json').read_text())
    sizes = {i['id']: [i['height'], i['width']] for i in truth['images']}
    found = []
    for a in truth['annotations']:
        height, width = sizes[a['image_id']]
        counts = [0, height * width]
        mask = dict(size=[height, width], counts=counts)
        keys = ('image_id', 'category_id', 'bbox')
        found.append({k: a[k] for k in keys} | dict(score=0.9))
        found[-1]['segmentation'] = mask
    (clean / 'results.json').write_text(json.dumps(found))


def files(folder: Path) -> dict:
    """What is there, but for outputs, and when it was written."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob('*')
        if path.is_file()
        and not path.relative_to(folder).parts[0].startswith(OUTPUTS)
    }


def limited(argv, output):
    """Run a script in a process with little memory."""
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES << 30,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run_script(argv, dict(os.environ), output)


def try_case(name: str, root: Path, number: int) -> dict:
    """Write the file of a case, read it, and see what has happened."""
    folder, clean = root / f'{number}', root / 'clean'
    folder.mkdir()
    command = CASES[name](folder, clean)
    before = files(folder) | files(clean)
    start, output = time.time(), root / f'{number}.log'
    process = imported.Process(target=limited, args=(command, str(output)))
    process.start()
    process.join(SECONDS)
    hangs = process.is_alive()
    if hangs:
        process.kill()
        process.join()
    text = output.read_text(errors='replace') if output.is_file() else ''
    last = text.strip().splitlines()[-1] if text.strip() else ''
    after = files(folder) | files(clean)
    return dict(
        case=name,
        seconds=round(time.time() - start, 1),
        status=process.exitcode,
        executed=(folder / 'executed').exists(),
        crashed=hangs or process.exitcode < 0,
        written_outside=after != before,
        told=process.exitcode == (name not in HARMLESS)
        and 'Traceback' not in text,
        last_line=last.replace(str(root), '')[:300],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', default='', help='cases with this in them')
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / 'clean').mkdir()
        prepare(root / 'clean')
        for number, case in enumerate(c for c in CASES if args.only in c):
            runs.append(try_case(case, root, number))
            print(json.dumps(runs[-1]), flush=True)
    if args.only:
        sys.exit()
    goals = dict(executed=0, crashed=0, written_outside=0, told=len(runs))
    keep('hostile', runs, goals)


if __name__ == '__main__':
    main()
