"""Compressed files: lossless, as small as promised, refused when damaged."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from halvit_mm.checkpoint import load_weights, read_header
from halvit_mm.compression import (
    FiPSConfig,
    factors,
    is_compressed_file,
    load_compressed,
    prepare,
    read_compressed,
    read_structures,
    save_compressed,
    scopes_of,
)
from halvit_mm.compression.sparsifiers import build_sparsifier

from ..commands import run
from .models import GROUPS, WIDTH, D, Net, tokens


@pytest.fixture
def compressed(tmp_path):
    """A model, its structures and its file."""
    model = Net().eval()
    config = FiPSConfig(GROUPS, budget=0.5, scaled=True)
    structures = prepare(model, config).structures
    scopes = scopes_of(list(factors(model)), 'group')
    build_sparsifier('static', scopes, 0.75, 1).start()
    path = tmp_path / 'model.safetensors'
    save_compressed(model, structures, path)
    return model, structures, path


def test_round_trip(compressed, tmp_path):
    model, structures, path = compressed
    other = Net(seed=1).eval()
    assert load_compressed(other, path) == structures
    assert torch.equal(other(tokens()), model(tokens()))
    again = tmp_path / 'again.safetensors'
    save_compressed(other, structures, again)
    one, two = load_file(path), load_file(again)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(ValueError, match='parametrized already'):
        prepare(other, FiPSConfig(GROUPS))


def test_files_of_the_first_version_are_read(compressed):
    model, structures, path = compressed
    expected, header = read_compressed(path), read_header(path)
    old = dict(
        version=1,
        structures=structures,
        shapes=header['shapes'],
        sha256=header['sha256'],
        meta=dict(dataset_meta=dict(classes=['a', 'b'])),
    )
    save_file(load_file(path), path, {'halvit_mm.fips': json.dumps(old)})
    assert is_compressed_file(path)
    found = read_compressed(path)
    assert found.structures == expected.structures == read_structures(path)
    assert found.meta == dict(dataset_meta=dict(classes=['a', 'b']))
    assert_close(found.state_dict, expected.state_dict, rtol=0, atol=0)
    assert load_weights(model, path) == 1.0


def test_size_is_the_arithmetic_of_the_budget(compressed):
    """Four bytes a value, one bit an entry; the rest as it was."""
    model, structures, path = compressed
    expected = 0
    for structure in structures:
        entries = structure.rank * WIDTH
        values = structure.rank * D + round(0.25 * entries) + WIDTH
        expected += 4 * values + entries / 8
    stored = load_file(path)
    names = ('shared_bases', 'parametrizations')
    size = sum(
        t.numel() * t.element_size()
        for name, t in stored.items()
        if any(part in name for part in names)
    )
    assert size == pytest.approx(expected, rel=0.01)
    others = sum(
        4 * v.numel()
        for k, v in stored.items()
        if not any(part in k for part in names)
    )
    header = 8 + int.from_bytes(path.read_bytes()[:8], 'little')
    assert path.stat().st_size == header + size + others


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == 'cut':
        content = content[: len(content) // 2]
    elif how == 'bit':
        content[-3] ^= 1
    elif how == 'empty':
        content = b''
    path.write_bytes(content)


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ('cut', 'is damaged or cut short'),
        ('empty', 'is damaged or cut short'),
        ('bit', 'is damaged: its checksum does not fit'),
    ],
)
def test_damaged_files_are_refused(compressed, how, message):
    _, _, path = compressed
    damage(path, how)
    with pytest.raises(ValueError, match=message):
        read_compressed(path)


def test_other_files_are_refused(compressed, tmp_path):
    model, structures, path = compressed
    other = tmp_path / 'other.safetensors'
    save_file(Net().state_dict(), other)
    with pytest.raises(ValueError, match='is no compressed file of FiPS'):
        read_compressed(other)
    with pytest.raises(FileNotFoundError, match='there is no compressed file'):
        read_compressed(tmp_path / 'nothing.safetensors')
    content = {'halvit_mm.fips': json.dumps(dict(version=9))}
    save_file(Net().state_dict(), other, content)
    with pytest.raises(ValueError, match='version 9.*reads version 1'):
        read_compressed(other)
    smaller = Net()
    smaller.blocks = smaller.blocks[:3]
    with pytest.raises(ValueError, match=r'mlp.fc1.weight is to be .*missing'):
        load_compressed(smaller, path)
    wider = Net()
    wider.head = torch.nn.Linear(D, 9)
    with pytest.raises(
        ValueError, match='(?s)does not fit Net: .*other shapes'
    ):
        load_compressed(wider, path)


def test_a_full_disk_keeps_the_last_file(compressed, monkeypatch):
    model, structures, path = compressed
    before = path.read_bytes()

    def full(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr('os.replace', full)
    with pytest.raises(OSError, match='No space left.*is kept'):
        save_compressed(model, structures, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_same_model_gives_the_same_bytes(compressed):
    model, structures, path = compressed
    before = path.read_bytes()
    for _ in range(3):
        save_compressed(model, structures, path)
        assert path.read_bytes() == before


def test_no_host_is_needed(compressed):
    _, _, path = compressed
    code = (
        'import sys\n'
        "sys.modules['mmengine'] = None\n"
        'from halvit_mm.compression import read_compressed\n'
        f'print(len(read_compressed({str(path)!r}).structures))'
    )
    output = run(sys.executable, '-c', code).stdout
    assert output.strip() == str(len(GROUPS))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(structures=[['a', 12, 10**12, False, []]]), 'a base of 12 x 10'),
        (dict(structures=[['a', 12, '9', False, []]]), "of 12 x '9' is not"),
        (dict(structures=[['a', 12]]), 'damaged or cut short .TypeError'),
        (dict(structures=[['a', 9, 9, 0, [[7, 0, 9]]]]), 'by no text'),
        (dict(structures=[['a', 9, 9, 0, [['b', 0, 9]] * 2]]), 'weight twice'),
        (dict(structures=7), 'damaged or cut short .TypeError'),
        (dict(shapes={'nothing': [2, 2]}), 'cut short .KeyError'),
        (dict(shapes=None), 'cut short .AttributeError'),
    ],
)
def test_a_header_that_is_not_of_the_file(compressed, change, message):
    _, _, path = compressed
    text = json.dumps({**read_header(path), **change})
    save_file(load_file(path), path, {'halvit_mm': text})
    with pytest.raises(ValueError, match=f'model.safetensors.*{message}'):
        read_compressed(path)


def test_a_mask_with_too_few_bits(compressed):
    _, _, path = compressed
    header = read_header(path)
    for shape in header['shapes'].values():
        shape[0] *= 10**6
    text = json.dumps(header)
    save_file(load_file(path), path, {'halvit_mm': text})
    with pytest.raises(ValueError, match=r'cut short .EOFError: \d+ bytes'):
        read_compressed(path)
