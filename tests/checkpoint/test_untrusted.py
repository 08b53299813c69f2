"""Nothing that a file holds is executed, whoever loads it."""

import json
import random
import shutil
import zipfile
from datetime import datetime

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as host
from safetensors.torch import save_file

from halvit_mm import weights
from halvit_mm.checkpoint import (
    check_model,
    load_content,
    read_header,
    read_state_dict,
    save_weights,
    untrusted,
)
from halvit_mm.weights import load_from_data_only
from tests.engine.tiny_run import tiny_runner
from tests.soak.hostile_files import Record
from tests.tools.conftest import tool


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return shutil.copyfile, (__file__, str(self.path))


@pytest.fixture
def marker(tmp_path):
    return tmp_path / 'executed'


@pytest.fixture
def evil(tmp_path, marker):
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, payload=Payload(marker)), path)
    return str(path)


def test_every_scheme_of_the_host_is_ours():
    assert set(CheckpointLoader._schemes.values()) == {load_from_data_only}
    assert len(CheckpointLoader._schemes) > 9


@pytest.mark.parametrize(
    'load',
    [
        load_content,
        CheckpointLoader.load_checkpoint,
        host._load_checkpoint,
        lambda path: host.load_checkpoint(torch.nn.Linear(1, 1), path),
    ],
)
def test_a_pickle_is_refused_and_the_way_round_named(load, evil, marker):
    with pytest.raises(ValueError, match='evil.pth is not .*--unsafe-load'):
        load(evil)
    assert not marker.exists()


def test_what_others_have_announced_does_not_count(evil, marker):
    with torch.serialization.safe_globals([shutil.copyfile]):
        before = set(torch.serialization.get_safe_globals())
        with pytest.raises(ValueError, match='is not a plain checkpoint'):
            load_content(evil)
        assert set(torch.serialization.get_safe_globals()) == before
    assert not marker.exists()


def test_who_trusts_a_file_runs_it(evil, marker, tmp_path):
    args = ['model_converters/convert_keys', evil, tmp_path / 'out.pth']
    for options, executed in ((), False), (('--unsafe-load',), True):
        tool(*args, *options, check=False)
        assert marker.exists() is executed


def test_config_text_is_not_executed_on_resume(tmp_path, marker, monkeypatch):
    said = []
    monkeypatch.setattr(weights, 'say', said.append)
    tiny_runner(tmp_path, dict(interval=1), 1).train()
    path = tmp_path / 'epoch_1.pth'
    content, _ = load_content(path)
    text = f'from pathlib import Path\nPath({str(marker)!r}).touch()'
    content['meta'].update(config=text, cfg=text)
    content['message_hub']['runtime_info']['cfg'] = text
    torch.save(content, path)
    runner = tiny_runner(
        tmp_path, dict(interval=1), 2, resume=True, load_from=str(path)
    )
    runner.train()
    assert runner.epoch == 2 and not marker.exists()
    places = 'meta.config, meta.cfg, message_hub.cfg'
    assert f'would be executed: {places}' in said[0]


INFO = [('cfg', 'U99')]
HUB = [('runtime_info', INFO)]
META = [('config', 'U99'), ('key', 'U99')]


@pytest.mark.parametrize(
    'content',
    [
        Record([('message_hub', HUB)], ((('exit()',),),)),
        dict(message_hub=Record(HUB, (('exit()',),))),
        dict(message_hub=dict(runtime_info=Record(INFO, ('exit()',)))),
        dict(meta=Record(META, ('exit()', 'config'))),
    ],
)
def test_config_text_is_found_in_no_record(content, tmp_path):
    torch.save(content, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='evil.pth is no checkpoint'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'evil.pth'))


@pytest.mark.parametrize(
    ('content', 'protocol', 'reason'),
    [
        (dict(a=datetime(2020, 1, 1)), 2, 'global: GLOBAL datetime.datetime'),
        (dict(a=np.array('text')), 2, "got <class 'numpy.dtype.*'>"),
        (dict(a=torch.ones(1)), 4, 'operand .* only a pickle_protocol above'),
    ],
)
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_what_is_no_data_is_told_in_a_line(
    content, protocol, reason, tmp_path
):
    path = tmp_path / 'a.pth'
    torch.save(content, path, pickle_protocol=protocol)
    message = f'a.pth is not a plain checkpoint: [^\n]*{reason}.*--unsafe-load'
    with pytest.raises(ValueError, match=message) as info:
        load_content(path)
    assert len(str(info.value)) < 500 and 'weights_only' not in str(info.value)


def test_a_file_without_memory_for_it_is_not_called_damaged(
    tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError('no memory')

    torch.save(dict(a=torch.ones(1)), tmp_path / 'a.pth')
    monkeypatch.setattr(torch, 'load', fail)
    with pytest.raises(ValueError, match='a.pth cannot be read: no memory'):
        load_content(tmp_path / 'a.pth')


def hollow(content):
    content['state_dict'] = content


BOMBS = {
    'a tensor in a tensor': lambda c: c.update(
        a=torch.zeros(1).expand(10**9, 10**9)
    ),
    'on no device': lambda c: c.update(a=[torch.zeros(9, device='meta')]),
    'in itself': hollow,
}


@pytest.mark.parametrize('name', BOMBS)
def test_small_files_stay_small(name, tmp_path):
    content, path = dict(weight=torch.ones(2)), tmp_path / 'bomb.pth'
    BOMBS[name](content)
    torch.save(content, path)
    message = 'bomb.pth( has .* bytes, and in it|: dicts and lists are in one)'
    with pytest.raises(ValueError, match=message):
        load_content(path)


def test_what_the_scope_names_is_not_imported(tmp_path):
    model = dict(type='MaskRCNN', neck=dict(type='FPN', _scope_='mmdet'))
    assert check_model(model, tmp_path) is model
    model['neck']['_scope_'] = 'evil'
    with pytest.raises(ValueError, match="model.neck._scope_ .* is 'evil'"):
        check_model(model, tmp_path)
    for _ in range(100):
        model = dict(type='MaskRCNN', neck=model)
    with pytest.raises(ValueError, match='nested too deep'):
        check_model(model, tmp_path)


def test_nobody_is_trusted_unasked(monkeypatch):
    monkeypatch.setattr(untrusted, '_trusted', False)
    assert not untrusted.is_trusted()
    untrusted.trust_files()
    assert untrusted.is_trusted()


@pytest.mark.parametrize('is_ours', [True, False])
def test_a_flipped_bit_is_told_or_changes_nothing(is_ours, tmp_path):
    path, rng = tmp_path / 'a.pth', random.Random(0)
    state = dict(a=torch.arange(99.0), b=torch.ones(9))
    save_weights(path, state) if is_ours else torch.save(state, path)
    whole, told = path.read_bytes(), 0
    for _ in range(40):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            found = read_state_dict(str(path))
        except ValueError as error:
            assert 'a.pth' in str(error)
            told += 1
            continue
        assert found.keys() == state.keys()
        assert all(torch.equal(found[k], state[k]) for k in state)
    assert told > 20


def test_a_checkpoint_that_is_compressed_is_refused(tmp_path):
    torch.save(dict(a=torch.zeros(10**5)), tmp_path / 'a.pth')
    path = tmp_path / 'b.pth'
    with zipfile.ZipFile(tmp_path / 'a.pth') as old:
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match='b.pth would unpack to 400,'):
        load_content(path)


@pytest.mark.parametrize(
    'entries',
    [
        dict(format='other'),
        dict(classes='cat'),
        dict(classes=[1]),
        dict(palette=[[1, 2]]),
        dict(palette=[[1, 2, 'x']]),
        dict(variant=[]),
    ],
)
def test_what_a_header_says_is_of_its_kind(entries, tmp_path):
    path = tmp_path / 'a.safetensors'
    header = save_weights(path, dict(a=torch.ones(2)))
    text = json.dumps(dict(header, **entries))
    save_file(dict(a=torch.ones(2)), path, {'halvit_mm': text})
    (name,) = entries
    with pytest.raises(ValueError, match=f'a.safe.* is damaged: {name} is'):
        read_header(path)
