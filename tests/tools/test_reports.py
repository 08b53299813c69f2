"""The tools that report on a config, without its data."""

import re

import pytest

from .conftest import CLASSIFIER, DETECTOR, tool


def test_check_config_names_what_fails():
    configs = (DETECTOR, CLASSIFIER, 'configs/demo/no_such_config.py')
    checker = 'analysis_tools/check_config'
    result = tool(checker, *configs, steps=2, check=False)
    assert result.returncode == 1
    for path in (DETECTOR, CLASSIFIER):
        line = re.search(rf'ok +{path}: ([\d.]+) s a step.*', result.stdout)
        assert line and float(line[1]) > 0 and 'loss ' in line[0]
    assert 'FAILED configs/demo/no_such_config.py' in result.stdout


def test_model_info_prints_every_part_and_its_latency():
    output = tool(
        'analysis_tools/model_info', CLASSIFIER, '--latency', batch=2
    ).stdout
    for part in ('backbone', 'head', 'total'):
        assert f'{part} ' in output
    found = re.search(r'latency (\d+) ms, ([\d.]+) images/s', output)
    milliseconds, rate = map(float, found.groups())
    assert milliseconds * rate == pytest.approx(2 * 1000, rel=0.2)
