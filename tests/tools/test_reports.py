"""The tools that report on a config, without its data."""

import re

import pytest
import torch

from .conftest import CLASSIFIER, DETECTOR, tool


def test_check_config_names_what_fails():
    configs = (DETECTOR, CLASSIFIER, 'configs/demo/no_such_config.py')
    args = (*configs, '--batch', 1, 4)
    checker = 'analysis_tools/check_config'
    result = tool(checker, *args, steps=2, check=False)
    assert result.returncode == 1
    lines = re.findall(
        r'ok +(\S+): batch (\d), ([\d.]+) s a step, ([\d.]+) images/s, '
        r'peak ([\d.]+) GiB, loss ',
        result.stdout,
    )
    expected = [(c, n) for c in (DETECTOR, CLASSIFIER) for n in ('1', '4')]
    assert [line[:2] for line in lines] == expected
    for _, batch, seconds, rate, _ in lines:
        assert float(rate) * float(seconds) == pytest.approx(
            int(batch), rel=0.1
        )
    # Each is measured apart: a smaller one after a larger one has less.
    peaks = [float(line[4]) for line in lines]
    assert peaks[1] > peaks[0] and peaks[1] > peaks[2] > 0.1
    assert 'FAILED configs/demo/no_such_config.py' in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_check_config_without_a_gpu():
    args = (CLASSIFIER, '--device', 'cuda')
    result = tool('analysis_tools/check_config', *args, check=False)
    assert result.returncode == 1
    assert 'ValueError: device cuda: there is no GPU' in result.stdout


def test_model_info_prints_every_part_and_its_latency():
    output = tool(
        'analysis_tools/model_info', CLASSIFIER, '--latency', batch=2
    ).stdout
    for part in ('backbone', 'head', 'total'):
        assert f'{part} ' in output
    found = re.search(r'latency (\d+) ms, ([\d.]+) images/s', output)
    milliseconds, rate = map(float, found.groups())
    assert milliseconds * rate == pytest.approx(2 * 1000, rel=0.2)
