"""What the doctor finds, with hosts and without."""

import os
import re
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
import torch

from halvit_mm import doctor, ops
from halvit_mm.compat import OPS_ENV_VAR, HostLine

from .commands import ROOT, run

GIB = 1 << 30
COMMANDS = [
    f'pip install "halvit-mm[{line}]"' for line in ('onedl', 'openmmlab')
]
ONEDL = HostLine('onedl', {'onedl-mmcv': '2.3.6'}, [])
OPENMMLAB = HostLine('openmmlab', {'mmcv-lite': '2.1.0'}, [])


def host_problems(*lines):
    return doctor.host_problems(list(lines))


def test_one_complete_host_line_is_fine():
    assert host_problems(ONEDL) == host_problems(OPENMMLAB) == []


def test_no_host_line():
    (problem,) = host_problems()
    assert all(command in problem for command in COMMANDS)


def test_both_host_lines():
    (problem,) = host_problems(ONEDL, OPENMMLAB)
    assert 'overwrite each other' in problem
    assert 'pip uninstall -y onedl-mmcv mmcv-lite' in problem
    assert COMMANDS[0] in problem


def test_incomplete_host_line():
    line = OPENMMLAB._replace(missing=['mmdet', 'mmpretrain'])
    (problem,) = host_problems(line)
    assert 'openmmlab lacks mmdet, mmpretrain' in problem
    assert COMMANDS[1] in problem


def test_only_headless_opencv_is_fine():
    assert doctor.opencv_problems(['opencv-python-headless']) == []


@pytest.mark.parametrize(
    'installed',
    [
        ['opencv-python'],
        ['opencv-python', 'opencv-python-headless'],
        ['opencv-contrib-python-headless'],
    ],
)
def test_other_opencv_is_replaced(installed):
    (problem,) = doctor.opencv_problems(installed)
    assert f'pip uninstall -y {" ".join(installed)}`' in problem
    assert 'pip install --no-deps opencv-python-headless' in problem


def test_missing_opencv_needs_no_uninstalling():
    (problem,) = doctor.opencv_problems([])
    assert 'uninstall' not in problem
    assert 'pip install --no-deps opencv-python-headless' in problem


def test_torch_and_torchvision():
    assert doctor.torch_problems('2.11.0', ops_work=True) == []
    (problem,) = doctor.torch_problems('2.11.0+cpu', ops_work=False)
    assert '2.11.0+cpu' in problem
    # The cure names the versions that are tested.
    constraints = (ROOT / 'constraints.txt').read_text().split()
    pins = [p for p in constraints if p.startswith(('torch==', 'torchvis'))]
    assert len(pins) == 2
    assert all(pin in problem for pin in pins)


@pytest.fixture
def machine(monkeypatch):
    """Set what ``diagnose`` finds; healthy unless told."""

    def apply(ops_work=True, shm=8 * GIB, installed=None):
        usage = namedtuple('Usage', 'free')(shm)
        monkeypatch.setattr(doctor, '_torchvision_works', lambda: ops_work)
        monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: usage)
        monkeypatch.setattr(doctor.os.path, 'isdir', lambda path: True)
        if installed is not None:
            monkeypatch.setattr(doctor, 'installed_version', installed.get)
        return doctor.diagnose()

    return apply


def test_healthy_machine(machine, capsys):
    assert machine().problems == []
    assert doctor.main() == 0
    assert 'no problem found' in capsys.readouterr().out


def test_small_shared_memory(machine, capsys):
    (problem,) = machine(shm=64 << 20).problems
    assert '/dev/shm has only 64 MiB' in problem
    assert '--shm-size' in problem
    assert 'train_dataloader.num_workers=0' in problem
    assert doctor.main() == 1
    assert f'PROBLEM {problem}' in capsys.readouterr().out
    assert machine(shm=GIB).problems == []


def test_broken_torchvision_is_reported_and_not_touched(machine, monkeypatch):
    monkeypatch.setattr(doctor, 'ops_backend', lambda: pytest.fail('imported'))
    (problem,) = machine(ops_work=False).problems
    assert 'torchvision does not belong' in problem


def test_missing_operators_are_a_problem(machine, monkeypatch):
    monkeypatch.setattr(doctor, 'ops_backend', lambda: 'none')
    (problem,) = machine().problems  # with hosts: mmdet cannot be imported
    assert OPS_ENV_VAR in problem


def test_a_bad_choice_of_operators_is_a_problem(machine, monkeypatch):
    def refuse():
        raise ValueError(f'{OPS_ENV_VAR} is nonsense')

    monkeypatch.setattr(doctor, 'ops_backend', refuse)
    (problem,) = machine().problems
    assert OPS_ENV_VAR in problem


def test_every_opencv_is_looked_for(machine):
    names = ['opencv-python', 'opencv-contrib-python']
    installed = dict.fromkeys(names, '4.12.0.88')
    (problem,) = machine(installed=installed).problems
    assert all(name in problem for name in names)


def problems_in(result):
    """Without a container's small /dev/shm, which is no fault of ours."""
    found = re.findall('^PROBLEM.*', result.stdout, re.MULTILINE)
    return [problem for problem in found if '/dev/shm' not in problem]


def test_doctor_of_this_environment():
    command = (sys.executable, '-m', 'halvit_mm.doctor')
    result = run(*command, check=False, CUDA_VISIBLE_DEVICES='')
    lines = result.stdout.splitlines()
    names = {d.metadata['Name'].lower() for d in metadata.distributions()}
    line = 'onedl' if 'onedl-mmengine' in names else 'openmmlab'
    (host,) = (text for text in lines if text.startswith('host line:'))
    assert host.startswith(f'host line: {line} (')
    assert f'torch: {metadata.version("torch")}' in lines
    assert "mmcv's operators: " in result.stdout
    assert 'tied projections: fallback (' in result.stdout
    assert result.returncode == ('PROBLEM' in result.stdout)
    assert problems_in(result) == []


@pytest.fixture(scope='module')
def without_hosts(tmp_path_factory):
    """This environment but for both host lines, as links in a folder."""
    folder = tmp_path_factory.mktemp('site-packages')
    hosts = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'onedl_', 'halvit_mm')
    for path in Path(torch.__file__).parents[1].iterdir():
        if not path.name.startswith((*hosts, '__editable__')):
            (folder / path.name).symlink_to(path)
    return folder


def run_without_hosts(folder, *args):
    # -S: nothing of the real site-packages.
    path = f'{ROOT}{os.pathsep}{folder}'
    return run(sys.executable, '-S', *args, check=False, PYTHONPATH=path)


def test_doctor_works_without_hosts(without_hosts):
    result = run_without_hosts(without_hosts, '-m', 'halvit_mm.doctor')
    assert result.returncode == 1
    assert 'host line:' not in result.stdout
    (problem,) = problems_in(result)
    assert all(command in problem for command in COMMANDS)


def test_models_without_hosts_say_what_to_install(without_hosts):
    code = (
        'import halvit_mm\n'  # works, so that the doctor does
        'print("version", halvit_mm.__version__)\n'
        'try:\n'
        '    import halvit_mm.models\n'
        'except ImportError as error:\n'
        '    print(type(error).__name__, error)\n'
    )
    result = run_without_hosts(without_hosts, '-c', code)
    assert result.returncode == 0, result.stdout
    assert 'version 0.' in result.stdout
    assert '\nImportError ' in result.stdout
    assert all(command in result.stdout for command in COMMANDS)


def test_the_choice_of_tied_projections(machine):
    with ops.use('plain'):
        facts = machine().facts
    assert 'tied projections: plain (HALVIT_MM_OPS=plain)' in facts


def test_a_bad_choice_of_tied_projections():
    command = (sys.executable, '-m', 'halvit_mm.doctor')
    result = run(*command, check=False, HALVIT_MM_OPS='fast')
    assert "PROBLEM HALVIT_MM_OPS='fast': choose one of" in result.stdout
