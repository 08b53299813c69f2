"""The benchmark: what it runs, in which order, and what it makes of it."""

import itertools
import json
import shutil

import pytest
import torch
from bench import report, steps
from bench.cases import BackboneCase
from bench.config_cases import CompressedCase, DetectorCase
from bench.layer_case import LayerCase, grid
from bench.result import BenchmarkResult, VariantResult
from bench.runner import run_benchmark
from bench.saved import saved_bytes
from bench.variants import VARIANTS, make_step
from torch.testing import assert_close

from ..commands import ROOT
from .conftest import DETECTOR

B, T, D, HEADS, F = 2, 50, 32, 4, 128
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def layer(mode='train', dtype='fp32', **kwargs):
    options = dict(batch=B, tokens=T, embed_dims=D, num_heads=HEADS)
    return LayerCase(mode=mode, dtype=dtype, device='cpu', **options, **kwargs)


def run(case, variants, **kwargs):
    options = dict(rounds=2, min_seconds=0, roofline=False)
    return run_benchmark(case, variants, **{**options, **kwargs})


def test_variants_take_turns(monkeypatch):
    """Each is run once a round; their samples are kept apart."""
    times = itertools.count()
    order = []

    def fake(step, repeats=1):
        order.append(step.module)
        return {'forward': float(next(times) + 1)}

    monkeypatch.setattr(steps.Step, 'time', fake)
    result = run(layer(), ['naive', 'ours'], rounds=3)
    modules = list(dict.fromkeys(order))
    assert [modules.index(m) for m in order[-6:]] == [0, 1, 1, 0, 0, 1]
    assert [len(v.samples) for v in result.variants] == [3, 3]


def variant(name, *times):
    samples = [{'forward': t, 'backward': t, 'optimiser': 9} for t in times]
    return VariantResult(name, samples=samples)


def test_ratios_are_taken_pair_by_pair():
    """A slow round slows both: the ratio of medians would be 1.5."""
    variants = [variant('naive', 1, 2, 9), variant('ours', 2, 3, 3)]
    case = layer().describe()
    result = BenchmarkResult(case, 'naive', variants, {}, [], {})
    ours = result['ours']
    assert ours.times == [4, 6, 6]
    assert ours.quartiles[1] == 6
    assert result.ratio(ours) == 1.5  # of 2, 1.5 and 1/3
    assert result.ratio(result['naive']) == 1
    assert ours.phase('optimiser') == 9
    table = report.result_table(result)
    row = dict(zip(table.columns, table.cells[1]))
    assert row['time / naive'] == '1.500' and 'saved MB' not in row
    assert float(row['images / s']) == pytest.approx(B / 6e-3, rel=1e-3)


def test_every_variant_computes_the_same():
    """Outputs and gradients of one step, whatever runs it."""
    case = layer()
    steps = {
        name: make_step(name, case, 'aot_eager')
        for name in ('naive', 'hoisted', 'compile', 'compile+ops', 'ours')
    }
    expected = None
    for step in steps.values():
        torch.compiler.reset()
        outputs = step()
        grads = [p.grad for p in step.module.parameters()]
        if expected is not None:
            assert_close((outputs, grads), expected, atol=1e-5, rtol=1e-4)
        expected = expected or (outputs, grads)


def test_the_other_gelu():
    case = layer('infer', act='gelu_tanh')
    assert 'gelu_tanh' in case.name
    with torch.no_grad():
        tanh = make_step('ours', case)()
        erf = make_step('ours', layer('infer'))()
    assert_close(tanh, erf, atol=1e-2, rtol=1e-2)
    assert not torch.equal(tanh[0], erf[0])


@pytest.mark.parametrize('name', ['naive', 'ours', 'prepared'])
def test_inference_computes_the_same(name):
    with torch.no_grad():
        expected = make_step('naive', layer('infer'))()
        assert_close(make_step(name, layer('infer'))(), expected)


@pytest.mark.parametrize(
    ('name', 'bytes_per_channel'),
    [('naive', 40), ('hoisted', 36), ('ours', 28)],
)
def test_saved_bytes(name, bytes_per_channel):
    """As the page on the operators has them, in 16-bit training."""
    step = make_step(name, layer(dtype='bf16'))
    saved = saved_bytes(step.forward, step.module)
    elements = B * T * D
    few = B * T * (16 + 4 * HEADS)  # means, deviations, logsumexp
    expected = bytes_per_channel * elements
    assert abs(saved.activations - expected) <= few + 2 * D * 8
    # [Wq; Wkv] and W; naive casts both uses of each
    assert saved.weights >= 2 * (2 * D * D + F * D)


def test_what_cannot_run_says_why():
    result = run(layer('infer'), ['ours', 'graph'])
    assert result['graph'].reason == 'needs a GPU'
    assert result.ratio(result['graph']) is None
    assert not result['graph'].failed
    result = run(layer(), ['ours', 'prepared'])
    assert result['prepared'].reason == 'for inference only'


def test_a_variant_that_fails_does_not_end_the_others(monkeypatch):
    def no_compiler(case, module):
        raise RuntimeError('no compiler\nmore')

    broken = VARIANTS['naive']._replace(change=no_compiler)
    monkeypatch.setitem(VARIANTS, 'naive', broken)
    result = run(layer(), ['naive', 'ours'], reference='ours')
    assert result['naive'].failed
    assert result['naive'].reason.endswith('RuntimeError: no compiler')
    assert len(result['ours'].samples) == 2


def test_backbone_times_the_optimiser_apart():
    case = BackboneCase(dtype='bf16', batch=1, arch=ARCH, img_size=32)
    result = run(case, ['untied', 'ours'])
    phases = {'forward', 'backward', 'optimiser'}
    assert set(result['ours'].samples[0]) == phases
    assert result.reference == 'untied'
    assert result.saved_per_channel(result['untied']) > (
        result.saved_per_channel(result['ours'])
    )


def test_json_keeps_everything(tmp_path):
    result = run(layer(), ['naive', 'ours'], roofline=True)
    path = tmp_path / 'new' / 'result.json'
    result.save(path)
    again = BenchmarkResult.load(path)
    assert again == result
    assert again.ideal_ms == result.ideal_ms > 0
    # forward and backward: q, k, v, out and the FFN; attention, whose
    # backward pass computes the scores again
    products = 2 * B * T * (4 * D * D + 2 * D * F)
    assert result.flops >= 3 * products


def test_markdown_and_the_page(tmp_path):
    """A placeholder becomes the command and its results, or a dash."""
    page = tmp_path / 'page.md'
    result = run(layer(), ['ours', 'prepared'], reference='ours')
    kept = tmp_path / 'docs' / 'benchmarks'
    for _ in range(2):
        folder = report.save_result(result, kept, str(page))
    lines = page.read_text().splitlines()
    assert sum(line.startswith('| ours') for line in lines) == 2
    template = tmp_path / 'docs' / 'templates' / 'benchmarks.md'
    template.parent.mkdir()
    template.write_text(
        'Measured\n\n{{ layer_*_fp32_cpu: benchmark.py layer }}\n\n'
        '{{ latency: model_info.py }}\n\n'
        'not yet\n\n{{ layer_*_cuda: benchmark.py layer }}\n'
    )
    seconds = {'configs/a.py': 2.0, 'configs/b.py': 1.0}
    latency = dict(device='a CPU', batch=8, seconds=seconds)
    (kept / 'latency.json').write_text(json.dumps(latency))
    text = report.write_page(tmp_path / 'docs').read_text()
    measured, _, missing = text.partition('not yet')
    assert '```\npython benchmark.py layer\n```\n\n| variant |' in measured
    assert '| [b](../configs/b.py) | 1,000 | 8.00 | 2.00 |' in measured
    assert '* a CPU.' in measured
    assert '| variant | median ms |' in measured
    assert f'![times](benchmarks/{folder.name}/times.png)' in measured
    assert (folder / 'times.png').is_file()
    assert result.environment['device'] in measured
    assert '* prepared: for inference only.' in measured
    assert missing.endswith('layer\n```\n\nMeasured: -\n')


def test_the_committed_page_is_up_to_date(tmp_path):
    docs = shutil.copytree(ROOT / 'docs', tmp_path / 'docs')
    page = (docs / 'benchmarks.md').read_text()
    assert report.write_page(docs).read_text() == page


def test_the_grid_is_for_a_gpu():
    with pytest.raises(ValueError, match='--force runs it all the same'):
        grid('cpu')
    cases = grid('cpu', force=True)
    sizes = {(c.embed_dims, c.batch * c.tokens) for c in cases}
    assert sizes == set(itertools.product((384, 768), (50432, 8400, 197)))


CALLS = {
    "variant 'fast' does not exist": lambda: run(layer(), ['fast']),
    "reference='naive' is none of the variants": (
        lambda: run(layer(), ['ours'], reference='naive')
    ),
    'rounds=0 must be': lambda: run(layer(), ['ours'], rounds=0),
    'fp16': lambda: layer(dtype='fp16'),
    "act='relu': choose one of": lambda: layer(act='relu'),
    "dtype='int8'": lambda: layer(dtype='int8'),
    'embed_dims=30': lambda: LayerCase(embed_dims=30, num_heads=4),
    'img_size=30 is not a multiple of 16': lambda: BackboneCase(img_size=30),
}


@pytest.mark.parametrize('message', CALLS)
def test_bad_input(message):
    with pytest.raises(ValueError, match=message):
        CALLS[message]()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match='cuda'):
        LayerCase(device='cuda')


def test_detector():
    options = dict(mode='infer', batch=1, shape=(64, 64))
    case = DetectorCase(config=DETECTOR, **options)
    result = run(case, ['untied', 'ours'], rounds=1)
    assert not [v.reason for v in result.variants if v.reason]


def test_compressed():
    """All ways to run a compressed backbone compute the same."""
    config = 'configs/fips/vit_cifar10_fips.py'
    case = CompressedCase('infer', batch=1, config=config, budget=0.25)
    assert case.name == 'fips_vit_cifar10_fips_25%_1x32x32px_infer_fp32_cpu'
    assert case.sizes == (64, 96, 384, 4)
    names = ('factorized', 'materialize', 'low_rank')
    expected, *others = (make_step(name, case)() for name in names)
    for outputs in others:
        assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    result = run(case, None, rounds=1)
    assert [v.name for v in result.variants] == ['dense', *names]
    assert result.reference == 'dense'
    assert not [v.reason for v in result.variants if v.reason]
    with pytest.raises(ValueError, match='cannot be met'):
        run(CompressedCase(config=case.config, budget=1e-5), ['factorized'])
