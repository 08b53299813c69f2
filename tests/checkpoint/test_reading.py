"""What others wrap around weights: recognised, and said."""

import shutil
from argparse import Namespace
from http.client import InvalidURL
from urllib.error import URLError

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmengine.runner import checkpoint as host
from safetensors.torch import save_file

from halvit_mm.checkpoint import load_weights, read_state_dict
from halvit_mm.models import PlainViT
from tests.helpers import build, randomise


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'file.pth')


def behind(prefix, state):
    return {f'{prefix}{name}': tensor for name, tensor in state.items()}


def pair():
    return [randomise(build(PlainViT)).state_dict() for _ in range(2)]


def loaded(path, **kwargs):
    ours = build(PlainViT)
    assert load_weights(ours, path, **kwargs) == 1.0
    return ours.state_dict()


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


ENTRIES = {
    # two entries -> the one that is taken, and how it is called
    ('teacher', 'student'): "took 'teacher' (EMA weights), not 'student'",
    ('state_dict', 'state_dict_ema'): "took 'state_dict' (online weights)",
    ('model', 'model_ema'): "took 'model' (online weights), not 'model_ema'",
    ('model', 'ema'): "took 'model' (online weights), not 'ema' (EMA weights",
    ('net', 'ema'): "took 'net' (online weights), not 'ema' (EMA weights",
    ('params', 'params_ema'): "took 'params' (online weights), not 'params_e",
    ('model', 'mine'): "took 'model' (online weights), not 'mine' (other",
    # mmengine's EMAHook has exchanged them
    ('state_dict', 'ema_state_dict'): "took 'state_dict' (EMA weights), not",
}


@pytest.mark.parametrize('names', ENTRIES)
def test_one_of_two_entries_is_taken_and_named(names, path, said):
    taken, other = pair()
    torch.save({**dict(zip(names, (taken, other))), 'epoch': 3}, path)
    assert equal(loaded(path), taken)
    assert ENTRIES[names] in said[0]
    assert f'key={names[1]!r}' in said[0]
    assert equal(loaded(path, key=names[1]), other)
    with pytest.raises(ValueError, match=r"has no entry 'best', but \['"):
        load_weights(build(PlainViT), path, key='best')


NAMES = ('net', 'network', 'params', 'weights', 'ema', 'model_state_dict')


@pytest.mark.parametrize('name', [*NAMES, 'any_other'])
def test_an_entry_of_another_name_is_taken_and_named(name, path, said):
    state, _ = pair()
    optimizer = dict(state={0: dict(exp_avg=torch.ones(1))}, param_groups=[])
    torch.save({'epoch': 3, name: state, 'optimizer': optimizer}, path)
    assert equal(loaded(path), state)
    (line,) = [line for line in said if 'took' in line]
    assert f"file.pth: took '{name}' (" in line


def test_a_choice_between_unknown_entries_is_asked_for(path):
    one, other = pair()
    torch.save(dict(generator=one, critic=other, epoch=3), path)
    message = r"in \['generator', 'critic'\]: name one .* with key="
    with pytest.raises(ValueError, match=message):
        read_state_dict(path)
    assert equal(loaded(path, key='critic'), other)


def test_entries_inside_an_entry(path, said):
    one, other = pair()
    inner = dict(model=one, ema=dict(module=other))
    torch.save(dict(state_dict=inner, model=dict(type='ViT')), path)
    assert equal(loaded(path), one)
    assert "took 'model' (online weights), not 'ema'" in said[0]
    assert equal(loaded(path, key='ema'), other)


def test_the_averaged_model_of_mmengine(path):
    state, ema = pair()
    ema = {**behind('module.', ema), 'steps': torch.tensor(7)}
    torch.save(dict(state_dict=state, ema_state_dict=ema), path)
    found = loaded(path, key='ema_state_dict')
    assert equal(
        found,
        {k.removeprefix('module.'): v for k, v in ema.items() if k != 'steps'},
    )


@pytest.mark.parametrize(
    ('wrap', 'line'),
    [
        (lambda s: behind('_orig_mod.', s), 'names without _orig_mod.'),
        (
            lambda s: behind('backbone._orig_mod.', s),
            'names without _orig_mod.',
        ),
        (lambda s: behind('module.', s), 'names without module.'),
        (
            lambda s: behind('module._orig_mod.backbone.', s),
            'names without _orig_mod., module.',
        ),
        (
            lambda s: behind('model.', s),
            "took the weights whose names begin with 'model.'",
        ),
        (
            lambda s: behind('model.backbone.', s),
            "took the weights whose names begin with 'model.backbone.'",
        ),
        (
            lambda s: dict(s, ema_layers_0_ln1_weight=torch.ones(3)),
            "not needed by PlainViT (1): ['ema_layers_0_ln1_weight']",
        ),
    ],
)
def test_wrappers_are_taken_off_and_named(wrap, line, path, said):
    state, _ = pair()
    torch.save(wrap(state), path)
    assert equal(loaded(path, prefix='backbone.'), state)
    assert any(line in text for text in said)


def test_a_choice_between_two_models_is_asked_for(path, said):
    teacher, student = pair()
    both = {**behind('teacher.b.', teacher), **behind('student.b.', student)}
    torch.save(both, path)
    with pytest.raises(ValueError) as info:
        load_weights(build(PlainViT), path, prefix='backbone.')
    assert "behind ['teacher.b.', 'student.b.']: name one of them" in str(
        info.value
    )
    assert 'prefix=' in str(info.value)
    assert equal(loaded(path, prefix='student.b'), student)
    assert (
        f"left out what is not of 'student.b.': teacher ({len(teacher)})"
        in said[0]
    )


def test_no_weight_takes_the_place_of_another(path, said):
    one, other = pair()
    torch.save({**one, **behind('module.', other)}, path)
    with pytest.raises(ValueError, match=r"known here .*\['module\.cls_token"):
        load_weights(build(PlainViT), path)
    assert equal(loaded(path, prefix='module.'), other)


def test_arguments_of_a_command_line_are_data(path, said):
    state, _ = pair()
    torch.save(dict(model=state, args=Namespace(lr=0.1, out='x')), path)
    assert equal(loaded(path), state)


def test_what_is_no_tensor_is_named(path, said):
    state, _ = pair()
    torch.save(dict(state, epoch=3), path)
    assert equal(loaded(path), state)
    assert "no tensors, left out (1): ['epoch']" in said[0]


def test_the_host_withdraws_nothing_from_us(path):
    """Its loader removes announced classes; ours announces them again."""
    state, _ = pair()
    hub = MessageHub('test_reading')
    hub.update_scalar('train/loss', 1.5)
    torch.save(dict(state_dict=state, message_hub=hub.state_dict()), path)
    for _ in range(2):
        load_checkpoint(build(PlainViT), path, map_location='cpu')
        assert equal(read_state_dict(path), state)
    torch.serialization.clear_safe_globals()
    assert equal(loaded(path), state)


@pytest.fixture
def fetched(path, monkeypatch, tmp_path):
    """Addresses that are asked for; what is downloaded is ``path``."""
    addresses = []

    def download(address, target):
        addresses.append(address)
        shutil.copy(path, target)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    known = dict(resnet0='https://x/net.pth')
    monkeypatch.setattr(host, 'get_torchvision_models', lambda: known)
    monkeypatch.setattr(host, 'get_mmcls_models', lambda: known)
    return addresses


def test_an_address_is_downloaded_once_and_read_as_data(path, fetched):
    state, _ = pair()
    torch.save(behind('backbone.', state), path)
    for address in ('torchvision://resnet0', 'https://x/net.pth?a=/b.pth'):
        backbone = build(
            PlainViT, init_cfg=dict(type='Pretrained', checkpoint=address)
        )
        backbone.init_weights()
        assert equal(backbone.state_dict(), state)
        plain = build(PlainViT)
        load_checkpoint(plain, 'mmcls://resnet0')  # by the host
        assert equal(plain.state_dict(), state)
    assert fetched == ['https://x/net.pth']
    torch.save(dict(state, hook=print), path)
    with pytest.raises(ValueError, match='more.pth is not a plain checkpoint'):
        read_state_dict('https://x/more.pth')


@pytest.mark.parametrize(
    'error',
    [URLError('no network'), KeyError('x'), InvalidURL('a space'), ValueError],
)
def test_an_address_that_cannot_be_fetched(error, fetched, monkeypatch):
    def fail(*args):
        raise error

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    with pytest.raises(ValueError, match='https://x/y.pth cannot be fetched'):
        read_state_dict('https://x/y.pth')


@pytest.mark.parametrize('scheme', ['s3', 'a:s3', 'petrel', 'pavi', 'file'])
def test_other_schemes_are_refused(scheme):
    for load in (read_state_dict, CheckpointLoader.load_checkpoint):
        with pytest.raises(ValueError, match=f'{scheme}:// is not read here'):
            load(f'{scheme}://x/y.pth')


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_map_location(suffix, tmp_path):
    state, _ = pair()
    path = str(tmp_path / f'file.{suffix}')
    (save_file if suffix == 'safetensors' else torch.save)(state, path)
    assert equal(loaded(path, map_location='cpu'), state)
    with pytest.raises((ValueError, AssertionError)):
        load_weights(build(PlainViT), path, map_location='cuda:99')


def test_names_that_are_no_text_are_left_out(path, said):
    """A fuzzer's find: a tuple as a name was an error of ``re``."""
    torch.save({'a.weight': torch.ones(2), (1, 2): torch.ones(2)}, path)
    assert list(read_state_dict(path)) == ['a.weight']
    assert 'left out (1): [(1, 2)]' in said[0]
    torch.save({'state_dict': {(1, 2): torch.ones(2)}}, path)
    with pytest.raises(ValueError, match='holds no weights'):
        read_state_dict(path)
