"""The proof of the operators on a GPU, tried on the CPU."""

import json
import os
import subprocess
import sys
import time

import gpu_proof
import pytest
from bench.report import write_page
from proof.machine import read_junit
from proof.report import proof_markdown
from proof.runner import CannotRunError, Step, run_step
from proof.steps import STEPS

from ..commands import ROOT, run

#: Hides the hosts and what they bring from every process.
HIDE = """
import sys

HIDDEN = {'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'rich', 'matplotlib'}


class Filter:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in HIDDEN:
            return None
        return self.finder.find_spec(name, path, target)


sys.meta_path[:] = map(Filter, sys.meta_path)
"""


def prove(out, *args, check=True, **environment):
    """What a dry run writes and prints."""
    tool = 'tools/analysis_tools/gpu_proof.py'
    command = (sys.executable, tool, '--dry-run', '--out', out, *args)
    result = run(*command, check=check, **environment)
    proof = json.loads((out / 'proof.json').read_text())
    return {step['name']: step for step in proof['steps']}, result


def test_a_dry_run_with_nothing_but_pytorch(tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(HIDE)
    out = tmp_path / 'out'
    path = f'{tmp_path}{os.pathsep}{ROOT}'
    steps, result = prove(out, PYTHONPATH=path)
    assert list(steps) == list(STEPS)
    for name in ('versions', 'estimate', 'tests', 'opcheck', 'layers'):
        assert steps[name]['status'] == 'done', steps[name]
    for name in ('build', 'streams', 'graphs', 'memcheck'):
        assert steps[name]['reason'] == 'dry run'
    for name in ('backbone', 'single', 'detector'):
        assert steps[name]['reason'].startswith('not installed: mmengine')
    assert steps['versions']['data']['hosts'] == []

    checks = steps['opcheck']['data']
    assert 'tied_ffn_backward, bfloat16' in checks
    (cell,) = steps['layers']['data']['cells']
    variants = cell['variants']
    assert list(variants) == ['naive', 'ours', 'compile', 'compile + ours']
    for name, variant in variants.items():
        assert variant['ms'] > 0 and variant['kernels'] > 0
        called = {row['name'] for row in variant['longest']}
        assert any('halvit::' in n for n in called) == ('ours' in name)

    text = (out / 'proof.md').read_text()
    assert text.startswith('**A dry run: no figure counts.**')
    assert '| memcheck | small cases | skipped | 0 | dry run |' in text
    assert '| 64 | 16 | compile + ours | ' in text
    assert '242 of `naive`, 134 of `ours`' in text
    assert result.stdout.rstrip().endswith(f'written to {out}')
    assert '===== layers: done' in (out / 'proof.log').read_text()


def test_a_dry_run_of_what_needs_the_hosts(tmp_path):
    steps, _ = prove(tmp_path, '--only', 'single')
    assert steps['single']['data']['ms']['prepared'] > 0
    assert '| prepared |' in (tmp_path / 'proof.md').read_text()


def test_limits_end_a_step_and_leave_out_the_others(tmp_path):
    limits = ('--timeout', '0.2', '--minutes', '0.001')
    steps, result = prove(
        *(tmp_path, '--only', 'layers', 'opcheck', *limits), check=False
    )
    assert result.returncode == 1
    assert steps['opcheck']['reason'].startswith('it took longer than 0.0')
    left_out = 'no time is left of 0.001 minutes'
    assert steps['layers']['reason'] == left_out


def hang(setup):
    """Leaves a process behind that would outlive it."""
    child = subprocess.Popen(['sleep', '600'])
    setup.save(dict(pid=child.pid))
    print('it hangs', flush=True)
    time.sleep(600)


def end(setup):
    os._exit(3)


def fail(setup):
    setup.save(dict(so_far=1))
    raise ValueError('wrong\nmore')


def skip(setup):
    raise CannotRunError('nothing to run on')


def work(setup):
    print('it works')
    return dict(device=setup.device)


def outcome(function, log, seconds=60):
    step = Step('x', 'a step', f'{__name__}:{function.__name__}', seconds)
    return run_step(step, True, seconds, log)


@pytest.mark.parametrize(
    ('function', 'status', 'reason'),
    [
        (end, 'failed', 'the process ended with exit status 3'),
        (fail, 'failed', 'ValueError: wrong'),
        (skip, 'skipped', 'nothing to run on'),
        (work, 'done', ''),
    ],
)
def test_how_a_step_ends(function, status, reason, tmp_path):
    ended = outcome(function, tmp_path / 'log')
    assert (ended.status, ended.reason) == (status, reason)
    assert (
        ended.data
        == {
            'failed': {'so_far': 1} if function is fail else {},
            'skipped': {},
            'done': {'device': 'cpu'},
        }[status]
    )
    assert ('Traceback' in ended.log) == (function is fail)
    assert f'===== x: {status}' in (tmp_path / 'log').read_text()


def test_a_step_that_hangs_is_ended_with_what_it_started(tmp_path):
    outcome(work, tmp_path / 'log')  # what it is forked from has started
    ended = outcome(hang, tmp_path / 'log', seconds=5)
    assert ended.status == 'failed'
    assert ended.reason == 'it took longer than 5 s'
    assert ended.log == 'it hangs'
    for _ in range(100):  # until init has taken it away
        try:
            with open(f'/proc/{ended.data["pid"]}/stat') as file:
                state = file.read().rpartition(')')[2].split()[0]
        except FileNotFoundError:
            break
        if state == 'Z':
            break
        time.sleep(0.1)
    else:
        pytest.fail(f'the process of the step is left: {state}')


def proof_of_a_gpu():
    """What a GPU might have given, made up to check the arithmetic."""
    kernel = dict(name='cast_kernel', bytes=3e9, count=1, us=2000.0)
    kernel.update(gbytes=1500.0, of_copy=0.5)
    unseen = dict(name='activation_kernel', bytes=1e6, count=0, us=0)
    variant = dict(kernels=64, busy_ms=1.5, peak_mb=1234.5, difference=0.01)
    ours = dict(variant, ms=1.5, ours=[kernel, unseen], longest=[])
    variants = dict(naive=dict(variant, ms=2.0, longest=[]), ours=ours)
    cell = dict(width=384, batch=256, tokens=197)
    graphs = dict(cell, ours=dict(eager=2.0, graph=1.5, launches=0.25))
    data = dict(
        versions=dict(device='a GPU', torch='2', commit=''),
        layers=dict(
            left_out='',
            copy_gbytes=3000.0,
            cells=[{**cell, **dict(variants=variants)}],
        ),
        graphs=dict(cells=[graphs]),
        opcheck={'op': {'test_schema': 'SUCCESS', 'test_faketensor': 'no'}},
        tests=dict(tests=9, failures=1, errors=0, skipped=2),
        streams=dict(replays=20, difference=0.001),
        detector=dict(command='detector x', markdown='| a |'),
    )
    steps = [
        dict(name=name, what='', status='done', reason='', seconds=1.0, data=d)
        for name, d in data.items()
    ]
    return dict(dry_run=False, steps=steps)


def test_markdown():
    text = proof_markdown(proof_of_a_gpu())
    assert text.startswith('device a GPU; torch 2.')
    for line in (
        ' 50,432 | ours | 0.750 | 1.500 | 64 | 1.500 | 1,234 | 1.0e-02 |',
        ' 50,432 | cast_kernel | 1 | 3,000.0 | 2,000.0 | 1,500 | 50 |',
        ' 50,432 | activation_kernel | 0 | 1.0 | - | - | - |',
        ' 50,432 | ours | 2.000 | 1.500 | 25 |',
        '`opcheck`: 1 of 2 checks passed.',
        'Tests: 9 run, 1 failures, 0 errors, 2 skipped.',
        '`benchmark.py detector x`:',
    ):
        assert line in text, line
    assert 'rate against that of a copy, 3,000 GB/s' in text


def test_the_page_of_benchmarks_has_it(tmp_path):
    proof = proof_of_a_gpu()
    kept = tmp_path / 'benchmarks' / 'gpu_proof'
    for folder in (kept, tmp_path / 'templates'):
        folder.mkdir(parents=True)
    (kept / 'proof.json').write_text(json.dumps(proof))
    template = tmp_path / 'templates' / 'benchmarks.md'
    template.write_text('{{ gpu_proof: gpu_proof.py --out x }}\n')
    page = write_page(tmp_path).read_text()
    command = '```\npython gpu_proof.py --out x\n```'
    assert page == f'{command}\n\n{proof_markdown(proof)}\n'


def test_counts_of_pytest(tmp_path):
    path = tmp_path / 'junit.xml'
    path.write_text(
        '<testsuites><testsuite tests="3" failures="1" errors="0" skipped="1">'
        '<testcase classname="a" name="good"/>'
        '<testcase classname="a" name="bad"><failure/></testcase>'
        '<testcase classname="a" name="left"><skipped/></testcase>'
        '</testsuite></testsuites>'
    )
    counts, failed = read_junit(path)
    assert counts == dict(tests=3, failures=1, errors=0, skipped=1)
    assert failed == ['a::bad']


def test_unknown_steps_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['gpu_proof.py', '--only', 'fast'])
    with pytest.raises(SystemExit):
        gpu_proof.parse_args()
    assert "invalid choice: 'fast'" in capsys.readouterr().err
