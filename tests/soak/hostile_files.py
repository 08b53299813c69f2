"""Files that a stranger might give away, and what reads them.

Each case writes a file below its folder and returns the command that reads it,
without ``python``. A file that is executed makes ``executed`` in that folder.
"""

import pickle
import textwrap
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import torch

Command = List[str]
#: Name -> what writes a file, given a folder for it and the clean one.
CASES: Dict[str, Callable[[Path, Path], Command]] = {}
#: Cases whose file is used, without what is wrong in it.
HARMLESS = set()
HUGE = 100_000  # pixels


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


class Kind:
    """A type of numpy, made by a call."""

    def __init__(self, kind: list) -> None:
        self.kind = kind

    def __reduce__(self):
        return np.dtype, (self.kind,)


class Record(Kind):
    """A scalar of numpy that has keys as a dict has."""

    def __init__(self, kind: list, values: tuple) -> None:
        super().__init__(kind)
        self.bytes = np.array(values, kind).tobytes()

    def __reduce__(self):
        scalar, _ = np.float64(1).__reduce__()
        return scalar, (Kind(self.kind), self.bytes)


def case(name: str, harmless: bool = False):
    """Register a case."""
    if harmless:
        HARMLESS.add(name)

    def register(function):
        CASES[name] = function
        return function

    return register


def write_pickle(folder: Path, name: str = 'evil.pth') -> Path:
    content = dict(state_dict={}, meta=dict(epoch=1, iter=5))
    content['payload'] = Payload(folder / 'executed')
    torch.save(content, folder / name)
    return folder / name


def script(folder: Path, *lines: str) -> Command:
    """A script whose errors of our own end it in their sentence."""
    body = textwrap.indent('\n'.join(lines), '    ')
    text = (
        'import sys\nimport halvit_mm\nfrom halvit_mm.apis.cli import '
        f'errors_in_short\nwith errors_in_short():\n{body}\n'
    )
    (folder / 'call.py').write_text(text)
    return [str(folder / 'call.py')]


def train(folder: Path, clean: Path, *args: str, config='') -> Command:
    config = config or str(clean / 'run/tiny.py')
    options = [f'data_root={clean}/data', 'classes=auto']
    options += [x for x in args if '=' in x]
    more = [x for x in args if '=' not in x]
    work_dir = ['--work-dir', str(folder / 'work')]
    return [
        *('tools/train.py', config, *work_dir, *more),
        *('--cfg-options', *options),
    ]


def predict(folder: Path, clean: Path, model, *args) -> Command:
    args = args or (clean / 'data/val',)
    return [
        *('tools/predict.py', str(model), *map(str, args)),
        *('--out', str(folder / 'out'), '--device', 'cpu'),
    ]


@case('pickle: train --resume')
def _(folder, clean):
    return train(folder, clean, '--resume', str(write_pickle(folder)))


@case('pickle: train --resume, the newest of the folder')
def _(folder, clean):
    (folder / 'work').mkdir()
    content = dict(optimizer={}, meta={}, state_dict={})
    content['payload'] = Payload(folder / 'executed')
    torch.save(content, folder / 'work/epoch_1.pth')
    return train(folder, clean, '--resume')


@case('pickle: train load_from')
def _(folder, clean):
    return train(folder, clean, f'load_from={write_pickle(folder)}')


@case('pickle: init_cfg of our backbone')
def _(folder, clean):
    path = str(write_pickle(folder))
    init = dict(_delete_=True, type='Pretrained', checkpoint=path)
    config = folder / 'config.py'
    config.write_text(
        f"_base_ = '{clean}/run/tiny.py'\n"
        f'model = dict(backbone=dict(init_cfg={init}))\n'
    )
    return train(folder, clean, config=str(config))


@case("pickle: init_cfg of a host's backbone")
def _(folder, clean):
    path = str(write_pickle(folder))
    return script(
        folder,
        'from mmdet.models import ResNet',
        f'init = dict(type="Pretrained", checkpoint={path!r})',
        'ResNet(18, init_cfg=init).init_weights()',
    )


@case('pickle: test')
def _(folder, clean):
    path = str(write_pickle(folder))
    config = str(clean / 'run/tiny.py')
    work_dir = ['--work-dir', str(folder / 'work')]
    options = [f'data_root={clean}/data', 'classes=auto']
    return [
        *('tools/test.py', config, path, *work_dir),
        *('--cfg-options', *options),
    ]


@case('pickle: predict')
def _(folder, clean):
    return predict(folder, clean, write_pickle(folder))


@case('pickle in a file called .safetensors: predict')
def _(folder, clean):
    return predict(folder, clean, write_pickle(folder, 'evil.safetensors'))


@case('pickle of the old format: convert_keys')
def _(folder, clean):
    content = pickle.dumps(dict(weight=Payload(folder / 'executed')))
    (folder / 'evil.pth').write_bytes(content)
    source, target = folder / 'evil.pth', folder / 'out.pth'
    name = 'tools/model_converters/convert_keys.py'
    return [name, str(source), str(target)]


@case('pickle: dense_from_fips')
def _(folder, clean):
    source, target = write_pickle(folder), folder / 'out.pth'
    config = folder / 'config.py'
    config.write_text(
        f"_base_ = '{clean}/fixed.py'\n"
        "model = dict(backbone=dict(_delete_=True, type='CompressedBackbone', "
        "_scope_='halvit_mm', backbone={{_base_.model.backbone}}))\n"
    )
    name = 'tools/model_converters/dense_from_fips.py'
    return [name, str(config), str(source), str(target)]


@case('pickle: compress')
def _(folder, clean):
    config = folder / 'fips.py'
    config.write_text(
        f"_base_ = '{clean}/run/tiny.py'\n"
        "fips = dict(groups=['ffn'], budget=0.5)\n"
    )
    return [
        *('tools/compress.py', str(config), str(write_pickle(folder))),
        *('--out', str(folder / 'out'), '--device', 'cpu'),
        *('--cfg-options', f'data_root={clean}/data', 'classes=auto'),
    ]


@case('pickle: DetInferencer')
def _(folder, clean):
    config, path = str(clean / 'run/tiny.py'), str(write_pickle(folder))
    return script(
        folder,
        'from mmdet.apis import DetInferencer',
        f'DetInferencer({config!r}, {path!r}, device="cpu")',
    )


@case('pickle: mmengine load_checkpoint over http')
def _(folder, clean):
    write_pickle(folder)
    return script(
        folder,
        'import functools, http.server, os, threading',
        f'os.environ["TORCH_HOME"] = {str(folder / "out")!r}',
        'kind = http.server.SimpleHTTPRequestHandler',
        f'kind = functools.partial(kind, directory={str(folder)!r})',
        'server = http.server.HTTPServer(("127.0.0.1", 0), kind)',
        'threading.Thread(target=server.serve_forever, daemon=True).start()',
        'from mmengine.runner import CheckpointLoader',
        'address = f"http://127.0.0.1:{server.server_port}/evil.pth"',
        'CheckpointLoader.load_checkpoint(address)',
    )


@case('a scheme that is not read: s3')
def _(folder, clean):
    return script(
        folder,
        'from mmengine.runner import CheckpointLoader',
        'CheckpointLoader.load_checkpoint("s3://bucket/evil.pth")',
    )
