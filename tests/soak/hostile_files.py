"""Files that a stranger might give away, and what reads them.

Each case writes a file below its folder and returns the command that reads it,
without ``python``. A file that is executed makes ``executed`` in that folder.
"""

import io
import json
import pickle
import struct
import textwrap
import zipfile
from pathlib import Path
from typing import Callable, Dict, List

import torch
from safetensors.torch import load_file, save_file

from halvit_mm.checkpoint import save_weights

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


def case(name: str, harmless: bool = False):
    """Register a case."""
    if harmless:
        HARMLESS.add(name)

    def register(function):
        CASES[name] = function
        return function

    return register


def config_text(folder: Path) -> str:
    return (
        f'from pathlib import Path\nPath({str(folder)!r}, "executed").touch()'
    )


def write_pickle(folder: Path, name: str = 'evil.pth') -> Path:
    content = dict(state_dict={}, meta=dict(epoch=1, iter=5))
    content['payload'] = Payload(folder / 'executed')
    torch.save(content, folder / name)
    return folder / name


def write_with_text(folder: Path, clean: Path, **places) -> Path:
    """The clean checkpoint with config text under keys of both places."""
    content = torch.load(clean / 'run/epoch_1.pth', weights_only=True)
    text, path = config_text(folder), folder / 'evil.pth'
    content['meta'].update(epoch=1, iter=5)
    for key in places.get('meta', ()):
        content['meta'][key] = text
    content['message_hub'] = dict(
        log_scalars={},
        runtime_info=dict.fromkeys(places.get('hub', ()), text),
        resumed_keys={},
    )
    torch.save(content, path)
    return path


def write_header(folder: Path, clean: Path, **entries) -> Path:
    """A file of ours of the clean weights, whose header is changed."""
    path = folder / 'evil.safetensors'
    weights = torch.load(clean / 'run/epoch_1.pth', weights_only=True)
    header = save_weights(path, weights['state_dict'], classes=['a', 'b'])
    model = json.loads((clean / 'run/model.json').read_text())
    header = dict(header, model=model)
    for key, value in entries.items():
        header[key] = value(model) if callable(value) else value
    tensors = load_file(path)
    save_file(tensors, path, {'halvit_mm': json.dumps(header)})
    return path


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


def infer(folder: Path, path: Path) -> Command:
    return script(
        folder,
        'from mmdet.apis import DetInferencer',
        'try:',
        f'    DetInferencer(weights={str(path)!r}, device="cpu")',
        'except ValueError as error:  # the host finds no config',
        '    sys.exit(str(error))',
    )


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
    config = str(clean / 'fixed.py')
    name = 'tools/model_converters/dense_from_fips.py'
    return [name, config, str(source), str(target)]


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


@case('config text: meta.config, train --resume', harmless=True)
def _(folder, clean):
    path = write_with_text(folder, clean, meta=['config'])
    content = torch.load(path, weights_only=True)
    del content['meta']['dataset_meta']  # they are others
    torch.save(content, path)
    return train(folder, clean, '--resume', str(path))


@case('config text: meta.cfg, DetInferencer')
def _(folder, clean):
    return infer(folder, write_with_text(folder, clean, meta=['cfg']))


@case('config text: message hub, DetInferencer')
def _(folder, clean):
    return infer(folder, write_with_text(folder, clean, hub=['cfg']))


@case('config text: everywhere, predict', harmless=True)
def _(folder, clean):
    path = write_with_text(folder, clean, meta=['config', 'cfg'], hub=['cfg'])
    return predict(folder, clean, path, clean / 'data/val') + [
        *('--config', str(clean / 'fixed.py'))
    ]


@case('config text: header of safetensors, DetInferencer')
def _(folder, clean):
    text = config_text(folder)
    entries = dict(model=text, config=text, cfg=text, meta=dict(cfg=text))
    return infer(folder, write_header(folder, clean, **entries))


def _with_types(name: str, change: Callable):
    @case(f'type outside the list: {name}, predict')
    def _(folder, clean):
        command = f'touch {folder}/executed'
        evil = dict(type='subprocess.getoutput', cmd=command)
        return predict(
            folder, clean, write_header(folder, clean, **change(evil))
        )


_with_types('the model', lambda evil: dict(model=evil))
_with_types(
    'deep in lists',
    lambda evil: dict(model=lambda m: dict(m, neck=[[dict(a=[evil])]])),
)
_with_types('of the pipeline', lambda evil: dict(test_pipeline=[evil]))


@case('a scope, which would be imported: predict')
def _(folder, clean):
    (folder / 'evil_scope').mkdir()
    registry = folder / 'evil_scope/registry.py'
    registry.write_text(config_text(folder))
    path = write_header(
        folder,
        clean,
        model=lambda m: dict(m, neck=dict(m['neck'], _scope_='evil_scope')),
    )
    return script(
        folder,
        f'sys.path.insert(0, {str(folder)!r})',
        'from halvit_mm.apis import Predictor',
        f'Predictor({str(path)!r}, device="cpu")',
    )


@case('deep nesting: header of safetensors, predict')
def _(folder, clean):
    path = write_header(folder, clean)
    deep = '[' * 50_000 + ']' * 50_000
    save_file(load_file(path), path, {'halvit_mm': f'{{"model": {deep}}}'})
    return predict(folder, clean, path)


@case('a huge length of the header: predict')
def _(folder, clean):
    path = folder / 'evil.safetensors'
    path.write_bytes(struct.pack('<Q', 2**60) + b'{}')
    return predict(folder, clean, path)


@case('a tensor of 10^15 numbers in a small file: convert_keys')
def _(folder, clean):
    weight = torch.zeros(1).expand(10**8, 10**7)
    torch.save({'blocks.0.attn.qkv.weight': weight}, folder / 'evil.pth')
    target = folder / 'out.safetensors'
    name = 'tools/model_converters/convert_keys.py'
    return [name, str(folder / 'evil.pth'), str(target)]


@case('a zip that unpacks to 8 GB: test')
def _(folder, clean):
    buffer = io.BytesIO()
    torch.save(dict(weight=torch.zeros(4)), buffer)
    path = folder / 'evil.pth'
    with (
        zipfile.ZipFile(buffer) as source,
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            if not name.endswith('/data/0'):
                target.writestr(name, source.read(name))
                continue
            with target.open(name, 'w', force_zip64=True) as file:
                for _ in range(512):
                    file.write(bytes(2**24))
    config = str(clean / 'run/tiny.py')
    options = [f'data_root={clean}/data', 'classes=auto']
    work_dir = ['--work-dir', str(folder / 'work')]
    return [
        *('tools/test.py', config, str(path), *work_dir),
        *('--cfg-options', *options),
    ]
