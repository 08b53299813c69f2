"""Checkpoints with text that would run, types, scopes and sizes beyond it."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Callable

import torch
from safetensors.torch import load_file, save_file

from halvit_mm.checkpoint import save_weights

from .hostile_files import Command, Record, case, predict, script, train


def config_text(folder: Path) -> str:
    return (
        f'from pathlib import Path\nPath({str(folder)!r}, "executed").touch()'
    )


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


def infer(folder: Path, path: Path) -> Command:
    return script(
        folder,
        'from mmdet.apis import DetInferencer',
        'try:',
        f'    DetInferencer(weights={str(path)!r}, device="cpu")',
        'except ValueError as error:  # the host finds no config',
        '    sys.exit(str(error))',
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


def write_record(folder: Path, clean: Path) -> Path:
    """Config text in records of numpy, where the hosts expect dicts."""
    content = torch.load(clean / 'run/epoch_1.pth', weights_only=True)
    text = config_text(folder)
    info = [('runtime_info', [('cfg', 'U999')])]
    content['message_hub'] = Record(info, ((text,),))
    keys = [('epoch', 'i8'), ('iter', 'i8'), ('config', 'U999'), ('a', 'U9')]
    content['meta'] = Record(keys, (1, 5, text, 'config'))
    content['optimizer'] = {}
    torch.save(content, folder / 'evil.pth')
    return folder / 'evil.pth'


@case('config text: records of numpy, DetInferencer')
def _(folder, clean):
    return infer(folder, write_record(folder, clean))


@case('config text: records of numpy, train --resume')
def _(folder, clean):
    path = write_record(folder, clean)
    return train(folder, clean, '--resume', str(path))


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
