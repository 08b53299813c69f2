"""Flip a bit of a file, or cut it, a hundred times, and let tools read it.

`make soak` runs it. A tool is to name the file, or to find the same numbers.
Results are kept in docs/soak/damage.json.
"""

import random
import sys
import tempfile
from pathlib import Path
from typing import Dict

import torch
from safetensors.torch import save_file

from halvit_mm.checkpoint import load_content, read_weights, save_weights
from halvit_mm.compression import FiPSConfig, prepare, save_compressed
from halvit_mm.weights import load_from_data_only

from ..compression.models import GROUPS, Net
from ..tools.conftest import TWO_CLASSES, draw_dark_and_light, tool
from .results import keep

NUMBER = 100
#: Damaged files of each kind that every tool is given.
BY_TOOL = 2
CONFIG = 'configs/studies/vit_cifar10.py'


def write_torch(path: Path) -> None:
    torch.save(dict(state_dict=Net().state_dict(), meta={}), path)


def write_old(path: Path) -> None:
    state = Net().state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=False)


def write_plain(path: Path) -> None:
    save_file(Net().state_dict(), path)


def write_ours(path: Path) -> None:
    save_weights(path, Net().state_dict(), classes=['a', 'b'])


def write_compressed(path: Path) -> None:
    model = Net().eval()
    structures = prepare(model, FiPSConfig(GROUPS, budget=0.5)).structures
    save_compressed(model, structures, path)


KINDS = {
    'ours.pth': write_ours,
    'ours.safetensors': write_ours,
    'compressed.safetensors': write_compressed,
    'of others.pth': write_torch,
    'of others.safetensors': write_plain,
    'of PyTorch before 1.6.pth': write_old,
}


def numbers(path: Path) -> dict:
    """Copies of all tensors, for safetensors shares memory with the file."""
    found = read_weights(str(path)).state_dict
    load_content(path)
    load_from_data_only(str(path))
    return {k: tensor.clone() for k, tensor in found.items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and torch.equal(one[k], other[k])
        for k in one
    )


def read_damaged(path: Path, whole: dict) -> str:
    try:
        return 'same' if same(numbers(path), whole) else 'silent'
    except ValueError as error:
        return 'told' if path.name in str(error) else f'unnamed: {error}'


def damage(content: bytes, cut: bool, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    if cut:
        return content[:place]
    changed = bytearray(content)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def tools(folder: Path, path: Path) -> Dict[str, bool]:
    """Give a file to every tool that reads weights.

    Returns:
        Tool -> whether it ends in a sentence that names the file, not in a
        traceback.
    """
    options = {**TWO_CLASSES, 'data_root': folder / 'data'}
    out = folder / 'out'
    commands = {
        'test': (CONFIG, path),
        'train': (CONFIG, '--resume', path),
        'train, load_from': (CONFIG,),
        'compress': (CONFIG, path, '--out', out),
        'predict': (path, folder / 'data'),
        'model_converters/convert_keys': (path, out / 'new.pth'),
        'model_converters/tie_vit': (CONFIG, path, '--out', out),
        'deployment/export_onnx': (path, out / 'x.onnx', '--config', CONFIG),
    }
    found = {}
    for name, args in commands.items():
        more = dict(options)
        if name == 'train, load_from':
            more['load_from'] = path
        if name.endswith('tie_vit'):
            more['model.backbone.type'] = 'halvit_mm.HaLViT'
        takes = CONFIG == args[0]
        settings = [f'{k}={v}' for k, v in more.items()] if takes else ()
        result = tool(name.split(',')[0], *args, check=False, options=settings)
        said = ' '.join(result.stdout.split())
        found[name] = 'Traceback' not in said and path.name in said
    return found


def one_kind(folder: Path, name: str, cut: bool) -> dict:
    rng, path = random.Random(name), folder / name
    KINDS[name](path)
    content, whole = path.read_bytes(), numbers(path)
    ends, by_tool = [], []
    for number in range(NUMBER):
        path.write_bytes(damage(content, cut, rng))
        ends.append(read_damaged(path, whole))
        if number < BY_TOOL:
            by_tool.append(tools(folder, path))
    result = dict(file=name, damage='cut' if cut else 'a bit flipped')
    for end in ('told', 'same', 'silent'):
        result[end] = ends.count(end)
    result['others'] = [e for e in ends if e.startswith('unnamed')]
    result['tools_named_the_file'] = {
        name: f'{sum(found[name] for found in by_tool)} of {BY_TOOL}'
        for name in by_tool[0]
    }
    # Of others, only what has checksums can be told.
    expected = cut or name.startswith(('ours', 'compressed', 'of others.pth'))
    result['missed'] = bool(
        result['others'] or (expected and result['silent'])
    )
    return result


def main():
    with tempfile.TemporaryDirectory() as name:
        runs = []
        draw_dark_and_light(Path(name) / 'data', 4)
        for kind in KINDS:
            for cut in (False, True):
                runs.append(one_kind(Path(name), kind, cut))
                print(runs[-1], flush=True)
    keep('damage', runs, dict(missed=0))


if __name__ == '__main__':
    sys.exit(main())
