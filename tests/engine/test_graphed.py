"""Forward passes as CUDA graphs; off a GPU, all but the recording."""

import logging
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from halvit_mm.engine import GraphedForward
from halvit_mm.engine.graphed import CapturedForward
from halvit_mm.models import HaLViT
from halvit_mm.models.layers import pack_weights

from ..helpers import build, randomise


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def needs_gpu(test):
    has_gpu = torch.cuda.is_available()
    skip = pytest.mark.skipif(not has_gpu, reason='CUDA graphs need a GPU')
    return pytest.mark.cuda(skip(test))


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


class FakeGraphs(GraphedForward):
    """Recordings that run the module on the CPU."""

    device_type = 'cpu'
    num_captures = 0

    def capture(self, inputs):
        self.num_captures += 1
        static = tuple(x.clone() for x in inputs)
        outputs = self.module(*static)

        def replay():
            self.num_replays = getattr(self, 'num_replays', 0) + 1
            with torch.no_grad():
                new = self.module(*static)
                for old, value in zip(as_tuple(outputs), as_tuple(new)):
                    old.copy_(value)

        return CapturedForward(static, outputs, replay, [])


class Two(nn.Module):
    """Returns a tuple."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x, y):
        return self.linear(x), x + y


def graphed(module=None, **kwargs):
    return FakeGraphs((module or nn.Linear(3, 2)).eval(), **kwargs)


def test_a_shape_is_recorded_once_and_replayed_with_new_values():
    forward = graphed(Two())
    for _ in range(3):
        x, y = torch.randn(2, 4, 3)
        outs = forward(x, y)
        assert type(outs) is tuple
        for out, expected in zip(outs, forward.module(x, y)):
            assert torch.equal(out, expected)
    assert (forward.num_captures, forward.num_replays) == (1, 3)


def test_what_makes_a_new_recording():
    forward = graphed(nn.GELU(), max_graphs=9)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast('cpu', dtype=dtype):
            forward(torch.ones(2, 3))
    for x in (
        torch.ones(2, 3),
        torch.ones(2, 4),
        torch.ones(2, 3, dtype=torch.float64),
    ):
        forward(x)
        forward(x)
    assert forward.num_captures == forward.num_graphs == 5


def test_prepared_weights_are_recorded_anew():
    model = build(HaLViT).eval()
    forward = graphed(model)
    image = torch.randn(1, 3, 32, 32)
    for change, captures in (
        (lambda: None, 1),
        (lambda: pack_weights(model, torch.float32), 2),
        (lambda: None, 2),
        (lambda: model.load_state_dict(model.state_dict()), 3),
        (lambda: model.train().eval(), 3),  # nothing was left to drop
    ):
        change()
        torch.testing.assert_close(forward(image), model(image))
        assert forward.num_captures == captures
        assert forward.num_graphs == 1


def test_shapes_beyond_the_limit_run_eagerly_and_say_so_once(caplog):
    forward = graphed(max_graphs=2)
    with caplog.at_level(logging.WARNING, logger='halvit_mm'):
        for n in (1, 2, 3, 4, 3, 1):
            x = torch.randn(n, 3)
            assert torch.equal(forward(x), forward.module(x))
    assert forward.num_captures == forward.num_graphs == 2
    assert forward.num_replays == 3  # of 1, 2 and 1
    (record,) = caplog.records
    assert 'Linear' in record.message and 'max_graphs=2' in record.message


def test_reset_records_anew():
    forward = graphed(max_graphs=1)
    forward(torch.ones(1, 3))
    forward.reset()
    assert forward.num_graphs == 0
    forward(torch.ones(2, 3))
    assert (forward.num_captures, forward.num_graphs) == (2, 1)


class FakeStream:
    """Stands for a stream; waiting for another takes no time."""

    def __init__(self, device=None):
        self.device = device

    def wait_stream(self, stream):
        pass


class FakeGraph:
    """Stands for a graph."""

    def replay(self):
        pass


def test_recorded_on_the_stream_that_was_warmed_up(monkeypatch):
    """The default stream of ``torch.cuda.graph`` is of the first device."""
    current = [FakeStream()]

    @contextmanager
    def on(stream):
        current.append(stream)
        yield
        current.pop()

    fakes = dict(
        CUDAGraph=FakeGraph,
        Stream=FakeStream,
        stream=on,
        current_stream=lambda: current[-1],
        device=lambda device: nullcontext(),
        graph=lambda graph, pool=None, stream=None: on(stream),
    )
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(GraphedForward, 'device_type', 'cpu')
    module = nn.Linear(3, 2).eval()
    used = []
    module.register_forward_hook(lambda *_: used.append(current[-1]))
    image = torch.ones(1, 3)
    GraphedForward(module, num_warmup=2)(image)
    assert len(used) == 3
    assert set(used) == {used[0]}
    assert used[0].device == image.device


@pytest.mark.parametrize('copy_outputs', [True, False])
def test_outputs_are_copies_unless_it_is_chosen_otherwise(copy_outputs):
    forward = graphed(copy_outputs=copy_outputs)
    first = forward(torch.ones(2, 3))
    kept = first.clone()
    second = forward(torch.zeros(2, 3))
    assert torch.equal(first, kept) == copy_outputs
    assert (first is second) == (not copy_outputs)


def test_recordings_serve_inside_and_outside_of_inference_mode():
    forward = graphed()
    for first, then in (
        (torch.inference_mode, torch.no_grad),
        (torch.no_grad, torch.inference_mode),
    ):
        forward.reset()
        with first():
            forward(torch.ones(2, 3))
        with then():
            x = torch.randn(2, 3)
            assert torch.equal(forward(x), forward.module(x))


@pytest.mark.parametrize(
    ('error', 'act'),
    [
        (
            'has no gradients',
            torch.enable_grad()(lambda f: f(torch.ones(1, 3))),
        ),
        (
            'training mode',
            lambda f: (f.module.train(), f(torch.ones(1, 3))),
        ),
        ('at least one tensor', lambda f: f()),
        ('input 0 .* is a list', lambda f: f([1])),
        (
            'input 0 .* is on meta: graphs need cpu',
            lambda f: f(torch.ones(1, 3, device='meta')),
        ),
    ],
)
def test_bad_calls(error, act):
    with pytest.raises(ValueError, match=error):
        act(graphed())


def test_a_part_in_training_mode_is_named():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).eval()
    module[1].train()
    with pytest.raises(ValueError, match=r"\['1'\].* training"):
        FakeGraphs(module)(torch.ones(1, 3))


def test_other_results_are_refused_and_not_kept():
    class Lists(nn.Module):
        def forward(self, x):
            return [x]

    forward = graphed(Lists())
    with pytest.raises(ValueError, match='Lists returns a list'):
        forward(torch.ones(1, 3))
    assert forward.num_graphs == 0


def test_the_cpu_is_refused():
    with pytest.raises(ValueError, match='is on cpu: graphs need cuda'):
        GraphedForward(nn.Linear(3, 2).eval())(torch.ones(1, 3))


@pytest.mark.parametrize('name', ['max_graphs', 'num_warmup'])
def test_bad_numbers(name):
    with pytest.raises(ValueError, match=f'{name}=0'):
        GraphedForward(nn.Linear(3, 2), **{name: 0})


@pytest.fixture
def backbone():
    model = build(HaLViT, out_indices=(0, 2), out_type='featmap')
    return randomise(model).eval().cuda()


@needs_gpu
@pytest.mark.parametrize('dtype', [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('packed', [False, True])
def test_replay_equals_the_module(backbone, dtype, packed):
    if packed:
        pack_weights(backbone, dtype or torch.float32)
    forward = GraphedForward(backbone)
    with torch.autocast('cuda', dtype=dtype, enabled=dtype is not None):
        for batch in (2, 1, 2):
            image = torch.randn(batch, 3, 32, 32, device='cuda')
            for out, expected in zip(forward(image), backbone(image)):
                torch.testing.assert_close(out, expected)
    assert forward.num_graphs == 2


@needs_gpu
def test_replay_sees_weights_that_change_in_place(backbone):
    forward = GraphedForward(backbone)
    image = torch.randn(1, 3, 32, 32, device='cuda')
    before = forward(image)
    backbone.layers[0].ffn.tied.weight.mul_(2)
    after = forward(image)
    assert not torch.allclose(before[0], after[0])
    torch.testing.assert_close(after, backbone(image))


@needs_gpu
def test_dropped_copies_are_not_replayed(backbone):
    pack_weights(backbone, torch.bfloat16)
    forward = GraphedForward(backbone)
    image = torch.randn(1, 3, 32, 32, device='cuda')
    before = forward(image)
    backbone.load_state_dict(randomise(backbone).state_dict())
    after = forward(image)
    torch.testing.assert_close(after, backbone(image))
    assert not torch.allclose(after[0], before[0])


@needs_gpu
def test_recording_on_another_stream(backbone):
    image = torch.randn(2, 3, 32, 32, device='cuda')
    expected = backbone(image)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        forward = GraphedForward(backbone)
        outs = [forward(image) for _ in range(3)]
    torch.cuda.synchronize()
    for out in outs:
        torch.testing.assert_close(out, expected)
