"""Fuzz what reads files of others, guided by coverage.

`make soak` runs it; it needs the extra `fuzz`. A reader may end in a result
or in a sentence of ours that names the file: any other error, a crash, 20
seconds or 4 GB of memory is a finding, whose input is kept in docs/soak, as
are the results, fuzz.json.
"""

import argparse
import io
import json
import logging
import os
import re
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import atheris

# The hosts first: only what is imported below is instrumented.
import mmdet.datasets  # noqa: F401
import mmpretrain.datasets  # noqa: F401
import torch
from mmengine.logging import MMLogger
from safetensors.torch import load, save
from torch import _weights_only_unpickler as unpickler

with atheris.instrument_imports(include=['halvit_mm']):
    from halvit_mm.checkpoint import (
        load_weights,
        read_header,
        read_weights,
        save_weights,
    )
    from halvit_mm.compression import (
        FiPSConfig,
        load_compressed,
        prepare,
        read_compressed,
        read_structures,
        save_compressed,
    )
    from halvit_mm.datasets.coco_check import read_coco, read_results
    from halvit_mm.weights import load_from_data_only

from ..compression.models import GROUPS, Net  # noqa: E402
from .results import FOLDER, keep  # noqa: E402

unpickler.Unpickler.load = atheris.instrument_func(unpickler.Unpickler.load)
MEMORY = '/dev/shm' if Path('/dev/shm').is_dir() else None


def seed_torch(path: Path) -> bytes:
    state = {'a.weight': torch.ones(2, 2), 'a.bias': torch.ones(2).half()}
    meta = dict(dataset_meta=dict(classes=['a', 'b']), epoch=1)
    torch.save(dict(state_dict=state, meta=meta), path)
    return path.read_bytes()


def seed_release(path: Path) -> bytes:
    model = dict(type='MaskRCNN', neck=[dict(type='FPN', num_outs=5)])
    steps = [dict(type='Resize', scale=[9, 9])]
    options = dict(classes=['a'], palette=[[1, 2, 3]], test_pipeline=steps)
    save_weights(path, Net().state_dict(), model=model, **options)
    return path.read_bytes()


def seed_compressed(path: Path) -> bytes:
    model = Net().eval()
    structures = prepare(model, FiPSConfig(GROUPS, budget=0.5)).structures
    save_compressed(model, structures, path)
    return path.read_bytes()


def seed_annotations(path: Path) -> bytes:
    polygon, rle = [[1, 1, 9, 1, 9, 9]], dict(size=[16, 16], counts='0`81')
    boxes = dict(image_id=1, category_id=1, bbox=[1, 1, 8, 8], iscrowd=0)
    content = dict(
        images=[dict(id=1, file_name='a.png', width=16, height=16)],
        annotations=[
            dict(boxes, id=i, area=9.5, segmentation=mask, score=0.5)
            for i, mask in enumerate((polygon, rle), 1)
        ],
        categories=[dict(id=1, name='cat', supercategory='none')],
    )
    return json.dumps(content).encode()


def with_pickle(seed: bytes, data: bytes) -> bytes:
    """The seed's zip with another pickle, whose checksum fits."""
    target = io.BytesIO()
    old = zipfile.ZipFile(io.BytesIO(seed))
    with zipfile.ZipFile(target, 'w') as new:
        for name in old.namelist():
            is_pickle = name.endswith('data.pkl')
            new.writestr(name, data if is_pickle else old.read(name))
    return target.getvalue()


def with_header(seed: bytes, data: bytes) -> bytes:
    """The seed's tensors with another text in place of our header."""
    text = data.decode(errors='replace').encode('utf-8', 'replace').decode()
    return save(load(seed), {'halvit_mm': text})


def pickle_of(seed: bytes) -> bytes:
    file = zipfile.ZipFile(io.BytesIO(seed))
    (name,) = (x for x in file.namelist() if x.endswith('data.pkl'))
    return file.read(name)


def header_of(seed: bytes) -> bytes:
    (length,) = struct.unpack('<Q', seed[:8])
    metadata = json.loads(seed[8 : 8 + length])['__metadata__']
    return metadata['halvit_mm'].encode()


def read_checkpoint(path: str) -> None:
    read_weights(path)
    load_from_data_only(path)


def read_release(path: str) -> None:
    read_header(path)
    load_weights(Net(), path)


def read_fips(path: str) -> None:
    read_structures(path)
    read_compressed(path)
    load_compressed(Net(), path)


def read_annotations(path: str) -> None:
    file = read_coco(path, str(Path(path).parent))
    file.describe()
    Path(f'{path}.json').write_text(json.dumps(file.annotations))
    read_results(f'{path}.json', file)


#: Target -> ending, reader, seed, how a part is put into it, that part.
TARGETS = {
    'checkpoint': (
        '.pth',
        read_checkpoint,
        seed_torch,
        with_pickle,
        pickle_of,
    ),
    'release': (
        '.safetensors',
        read_release,
        seed_release,
        with_header,
        header_of,
    ),
    'compressed': (
        '.safetensors',
        read_fips,
        seed_compressed,
        with_header,
        header_of,
    ),
    'annotations': (
        '.json',
        read_annotations,
        seed_annotations,
        lambda seed, data: data,
        lambda seed: seed,
    ),
}


def fuzz(name: str, seconds: int, corpus: str) -> None:
    """Fuzz one target; the process ends with it.

    The first byte of an input says whether the rest is the file, or a part of
    a file that is right otherwise.
    """
    suffix, read, make_seed, put, part_of = TARGETS[name]
    path = Path(corpus).with_name(f'fuzz{suffix}')
    seed = make_seed(path)
    Path(corpus, 'whole').write_bytes(b'\0' + seed)
    Path(corpus, 'part').write_bytes(b'\1' + part_of(seed))
    MMLogger.get_current_instance().setLevel(logging.CRITICAL)
    warnings.simplefilter('ignore')

    def one_input(data: bytes) -> None:
        whole = data[1:] if not data or data[0] % 2 == 0 else None
        path.write_bytes(put(seed, data[1:]) if whole is None else whole)
        try:
            read(str(path))
        except ValueError as error:
            if str(path) not in str(error):
                raise

    options = [
        *(f'-max_total_time={seconds}', '-timeout=20', '-rss_limit_mb=4096'),
        *('-max_len=20000', f'-artifact_prefix={FOLDER}/fuzz_{name}_'),
    ]
    atheris.Setup([sys.argv[0], *options, corpus], one_input)
    atheris.Fuzz()


def run(name: str, seconds: int) -> dict:
    """Fuzz one target in a process of its own."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        corpus = f'{folder}/corpus'
        os.mkdir(corpus)
        command = [sys.executable, '-m', 'tests.soak.fuzz', '--child', name]
        result = subprocess.run(
            [*command, '--seconds', f'{seconds}', '--corpus', corpus],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        )
        inputs = len(list(Path(corpus).iterdir()))
    text = result.stdout
    done = re.search(r'Done (\d+) runs in (\d+) second', text)
    covered = re.findall(r'cov: (\d+)', text)
    return dict(
        target=name,
        seconds=int(done[2]) if done else None,
        inputs_tried=int(done[1]) if done else None,
        inputs_kept=inputs,
        branches_first=int(covered[0]) if covered else None,
        branches_last=int(covered[-1]) if covered else None,
        clean=result.returncode == 0 and done is not None,
        error='' if done and result.returncode == 0 else text[-3000:],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=int, default=600, help='a target')
    parser.add_argument('--only', choices=TARGETS, help='keeps no results')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    parser.add_argument('--corpus', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        fuzz(args.child, args.seconds, args.corpus)
    names = [args.only] if args.only else TARGETS
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = list(pool.map(lambda x: run(x, args.seconds), names))
    if args.only:
        sys.exit(json.dumps(runs, indent=1))
    keep('fuzz', runs, dict(clean=len(TARGETS)))


if __name__ == '__main__':
    main()
