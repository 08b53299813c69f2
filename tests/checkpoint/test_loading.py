"""Checkpoints: counted, never executed, and refused where they do not fit."""

import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from halvit_mm.checkpoint import load_weights, read_state_dict
from halvit_mm.models.backbones import (
    GroupedViT,
    HaLViT,
    PlainViT,
    SharedHaLViT,
    TiedResNet,
)
from tests.helpers import ARCH, DETECTION, build, randomise


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'checkpoint.pth')


def classifier_state(backbone, prefix='backbone.'):
    """What a classifier with this backbone saves."""
    state = {f'{prefix}{k}': v for k, v in backbone.state_dict().items()}
    state['head.layers.head.weight'] = torch.ones(10, ARCH['embed_dims'])
    return state


def assert_same_weights(one, other):
    assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


LAYOUTS = {
    'classifier': lambda b: dict(state_dict=classifier_state(b), meta={}),
    'timm': lambda b: dict(model=b.state_dict(), epoch=3),
    'bare': lambda b: b.state_dict(),
    'wrapped': lambda b: {
        f'module.{k}': v for k, v in classifier_state(b).items()
    },
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('cls', [HaLViT, PlainViT])
def test_layouts(cls, layout, path):
    theirs, ours = (randomise(build(cls)) for _ in range(2))
    torch.save(LAYOUTS[layout](theirs), path)
    assert load_weights(ours, path) == 1.0
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize('prefix', ['backbone.', ''])
def test_safetensors(prefix, tmp_path):
    theirs, ours = (randomise(build(HaLViT)) for _ in range(2))
    path = str(tmp_path / 'checkpoint.safetensors')
    save_file(classifier_state(theirs, prefix), path)
    assert load_weights(ours, path) == 1.0
    assert_same_weights(ours, theirs)


def test_prefix(path):
    # Two backbones in one file, as of a teacher and a student.
    theirs, decoy, ours = (randomise(build(HaLViT)) for _ in range(3))
    state = classifier_state(theirs, 'student.backbone.')
    torch.save({**state, **classifier_state(decoy)}, path)
    assert load_weights(ours, path, prefix='student.backbone.') == 1.0
    assert_same_weights(ours, theirs)


def without(state, *names):
    return {k: v for k, v in state.items() if k not in names}


def test_coverage_is_the_share_of_bytes(path):
    theirs, ours = (randomise(build(HaLViT)) for _ in range(2))
    name = 'layers.1.attn.q.weight'
    left_out = ours.layers[1].attn.q.weight.clone()
    torch.save(without(theirs.state_dict(), name), path)
    sizes = [p.numel() for p in ours.parameters()]
    expected = 1 - left_out.numel() / sum(sizes)
    coverage = load_weights(ours, path, min_coverage=0.94)
    assert coverage == pytest.approx(expected)
    assert torch.equal(ours.layers[1].attn.q.weight, left_out)
    assert torch.equal(ours.ln1.weight, theirs.ln1.weight)


def test_a_partial_checkpoint_is_refused(path):
    theirs, ours = (randomise(build(HaLViT)) for _ in range(2))
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    state = {
        k: v
        for k, v in theirs.state_dict().items()
        if not k.startswith('layers.2.')
    }
    torch.save(state, path)
    sizes = {k: p.numel() for k, p in ours.named_parameters()}
    share = sum(sizes.get(k, 0) for k in state) / sum(sizes.values())
    with pytest.raises(ValueError) as info:
        load_weights(ours, path)
    message = str(info.value)
    assert path in message and 'HaLViT' in message
    assert f'{share:.1%}' in message and 'at least 100%' in message
    num_missing = len(before) - len(state)
    assert f"missing ({num_missing}): ['layers.2.ln1.weight'" in message
    assert_close(ours.state_dict(), before, rtol=0, atol=0)
    # a user who knows can ask for less
    coverage = load_weights(ours, path, min_coverage=0.5)
    assert coverage == pytest.approx(share)


def test_a_single_weight_of_another_shape_is_refused(path):
    theirs, ours = (build(HaLViT) for _ in range(2))
    torch.save(dict(theirs.state_dict(), **{'ln1.bias': torch.ones(7)}), path)
    message = r"other shapes \(1\): \['ln1.bias is \(7,\), here \(32,\)'\]"
    with pytest.raises(ValueError, match=message):
        load_weights(ours, path)


@pytest.mark.parametrize(
    ('cls', 'options', 'complaint'),
    [
        (
            HaLViT,
            dict(embed_dims=48),
            r"other shapes .*'cls_token is \(1, 1, 48\), here \(1, 1, 32\)'",
        ),
        (
            HaLViT,
            dict(feedforward_channels=128),
            r'ffn.tied.weight is \(128, 32\), here \(64, 32\)',
        ),
    ],
    ids=['wider', 'wider-ffn'],
)
def test_another_architecture_is_refused(cls, options, complaint, path):
    torch.save(build(cls, arch=dict(ARCH, **options)).state_dict(), path)
    with pytest.raises(ValueError, match=f'(?s)does not fit .*{complaint}'):
        load_weights(build(HaLViT), path)


def test_untied_weights_do_not_fit_the_tied_twin(path):
    torch.save(build(PlainViT).state_dict(), path)
    message = 'weights of an untied ViT, which HaLViT cannot take'
    with pytest.raises(ValueError, match=message):
        load_weights(build(HaLViT), path)


def test_tied_weights_do_not_fit_the_untied_twin(path):
    torch.save(build(HaLViT).state_dict(), path)
    with pytest.raises(
        ValueError, match="of the variant 'none', this one is 'unt"
    ):
        load_weights(build(PlainViT), path)


def test_a_missing_file_says_what_to_do(path):
    command = 'python tools/train.py configs/demo/halvit_shapes.py'
    backbone = build(
        HaLViT,
        init_cfg=dict(type='Pretrained', checkpoint=path, made_by=command),
    )
    with pytest.raises(FileNotFoundError) as info:
        backbone.init_weights()
    for part in (
        path,
        command,
        '--cfg-options model.backbone.init_cfg=None',
    ):
        assert part in str(info.value)
    with pytest.raises(FileNotFoundError, match='checkpoint.pth'):
        read_state_dict(path)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_that_holds_code_is_refused_and_not_run(path, tmp_path):
    backbone, folder = build(HaLViT), tmp_path / 'trace'
    content = dict(state_dict=backbone.state_dict(), extra=Payload(folder))
    torch.save(content, path)
    with pytest.raises(ValueError, match='checkpoint.pth is not a plain'):
        load_weights(backbone, path)
    assert not folder.exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert folder.exists()


@pytest.mark.parametrize(
    'content',
    [dict(meta=dict(epoch=1)), {}, [1, 2], torch.ones(3)],
    ids=['meta', 'empty', 'list', 'tensor'],
)
def test_a_file_without_weights_is_refused(content, path):
    torch.save(content, path)
    with pytest.raises(ValueError, match='checkpoint.pth'):
        read_state_dict(path)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize('share', [0, 0.5])
def test_a_file_cut_short_is_refused_by_name(share, suffix, tmp_path):
    path = tmp_path / f'cut.{suffix}'
    save = save_file if suffix == 'safetensors' else torch.save
    save(build(HaLViT).state_dict(), str(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f'cut.{suffix}'):
        read_state_dict(str(path))


TEXTS = {
    'a page': (b'<!DOCTYPE html><html><body>404</body></html>', 'no checkpoi'),
    'JSON': (b'{"error": "not found"}', r"begins with b'{\"error"),
    'a word': (b'hello', "begins with b'hello': download it again"),
    'a config': (b'model = dict()\n', 'of the file and not of a page'),
    'a pointer': (
        b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
        'is a pointer of git-lfs, .* with git lfs pull',
    ),
    'nothing': (b'', r'damaged or cut short \(EOFError'),
    'one byte': (b'\x80', 'damaged or cut short .*: write or download it'),
    'other data': (b'\x80\x02garbage \x80\x81', 'damaged or cut short'),
    'an operand': (b'\x80\x02i', r'short \(Unsupported operand 105'),
    'an archive': (b'PK\x03\x04garbage', 'damaged or cut short'),
}


@pytest.mark.parametrize('what', TEXTS)
def test_what_is_no_checkpoint_is_said_to_be_none(what, path):
    content, message = TEXTS[what]
    Path(path).write_bytes(content)
    with pytest.raises(ValueError, match=f'(?s)checkpoint.pth .*{message}'):
        read_state_dict(path)


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_no_bytes_end_in_another_error(path):
    """Whatever torch makes of them, byte for byte."""
    rng = random.Random(0)
    for beginning in (b'\x80\x02', b'\x80', b''):
        for byte in range(256):
            rest = bytes(rng.randrange(256) for _ in range(20))
            Path(path).write_bytes(beginning + bytes([byte]) + rest)
            with pytest.raises(ValueError, match='checkpoint.pth'):
                read_state_dict(path)


def test_a_pointer_of_git_lfs_named_safetensors(tmp_path):
    path = tmp_path / 'file.safetensors'
    path.write_bytes(TEXTS['a pointer'][0])
    with pytest.raises(ValueError, match='file.safetensors is a pointer of'):
        read_state_dict(path)


@pytest.mark.parametrize('is_list', [False, True])
@pytest.mark.parametrize(
    ('cls', 'options'),
    [
        (HaLViT, {}),
        (PlainViT, {}),
        (SharedHaLViT, {}),
        (SharedHaLViT, dict(share_vectors=False)),
        (GroupedViT, dict(arch=dict(ARCH, num_layers=4))),
    ],
)
def test_classification_to_detection(cls, options, is_list, path):
    theirs = randomise(build(cls, **options))  # 32 px, with a cls token
    torch.save(dict(state_dict=classifier_state(theirs)), path)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    # mmengine takes one or several
    init_cfg = [init_cfg] if is_list else init_cfg
    ours = build(cls, **options, **DETECTION, init_cfg=init_cfg)
    ours.init_weights()
    assert ours.is_init
    expected = without(theirs.state_dict(), 'cls_token')
    expected['pos_embed'] = expected['pos_embed'][:, 1:]
    assert_close(ours.state_dict(), expected, rtol=0, atol=0)


def test_classification_to_detection_of_a_resnet(path):
    """Its statistics come along, and what is frozen is loaded, too."""
    options = dict(stem_channels=4, base_channels=4)
    theirs = randomise(TiedResNet(**options))
    for buffer in theirs.buffers():
        buffer.copy_(torch.randint(1, 9, buffer.shape))
    state = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    state['head.fc.weight'] = torch.ones(10, 128)
    torch.save(dict(state_dict=state), path)
    ours = TiedResNet(
        **options,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint=path),
    )
    ours.init_weights()
    assert ours.is_init
    assert_same_weights(ours, theirs)


def test_classification_to_detection_at_another_size(path):
    theirs = randomise(build(HaLViT))
    torch.save(classifier_state(theirs), path)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    ours = build(HaLViT, **DETECTION, img_size=(48, 80), init_cfg=init_cfg)
    ours.init_weights()
    same = build(HaLViT, **DETECTION, img_size=(48, 80))
    same.load_state_dict(theirs.state_dict())  # tested by itself
    assert_same_weights(ours, same)


def test_other_init_cfgs_are_mmengines():
    init_cfg = dict(type='Constant', layer='Conv2d', val=0.5)
    backbone = build(HaLViT, init_cfg=init_cfg)
    backbone.init_weights()
    assert backbone.patch_embed.projection.weight.unique().tolist() == [0.5]


def test_half_precision_checkpoints_load(path):
    theirs, ours = (randomise(build(HaLViT)) for _ in range(2))
    torch.save(theirs.half().state_dict(), path)
    assert load_weights(ours, path) == 1.0
    assert ours.pos_embed.dtype == torch.float32
    assert_same_weights(ours, theirs.float())
