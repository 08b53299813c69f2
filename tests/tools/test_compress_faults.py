"""What compress.py refuses, keeps as it is, or does once."""

import json
from functools import partial

import pytest

from halvit_mm.apis import load_config
from halvit_mm.apis import test as evaluate
from halvit_mm.apis.compress import compress_checkpoint, print_plan
from halvit_mm.compression import FiPSConfig, find_groups, fips

from . import test_compress
from .test_compress import config_of

setting = test_compress.setting  # the fixture


def compress(cfg, setting, out, plan=lambda *args: None, **settings):
    config = FiPSConfig.from_mapping(cfg.fips, **settings)
    return compress_checkpoint(cfg, str(setting[0]), config, out, plan)


def test_what_cannot_be_met_is_said_before_anything_takes_time(
    setting, tmp_path
):
    cfg = config_of(setting, data_root='nowhere')
    for options, message in (
        (dict(budget=0.001), 'cannot be met.* reach'),
        (dict(groups=['nothing']), 'no module matches'),
    ):
        with pytest.raises(ValueError, match=message):
            compress(cfg, setting, tmp_path, **options)


def test_groups_are_found_once(setting, tmp_path, monkeypatch):
    found = []

    def count(*args):
        found.append(args)
        return find_groups(*args)

    monkeypatch.setattr(fips, 'find_groups', count)
    compress(config_of(setting), setting, tmp_path, epochs=1)
    assert len(found) == 1
    assert (tmp_path / 'compressed.safetensors').is_file()


def test_frozen_stages(setting, tmp_path):
    """They are compressed and calibrated as the others, and stay frozen."""
    frozen = config_of(setting, **{'model.backbone.frozen_stages': 2})
    results = [
        compress(cfg, setting, tmp_path / name)
        for name, cfg in (('frozen', frozen), ('free', config_of(setting)))
    ]
    assert results[0].errors == results[1].errors
    model = results[0].compression.model
    names = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert {n.split('.')[1] for n in names if n[:6] == 'layers'} == {'0', '1'}


def test_a_calibration_that_diverges_writes_nothing(setting, tmp_path):
    message = r'pass 1, step 2: .*layers\.0\.ffn is .*fips\.lr=1e\+30 is'
    with pytest.raises(ValueError, match=message):
        compress(config_of(setting), setting, tmp_path, lr=1e30)
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_the_whole_budget(setting, tmp_path, capsys):
    """Nothing would become smaller: the model is what it was."""
    original, out = config_of(setting), tmp_path / 'out'
    plan = partial(print_plan, out=out)
    compress(original, setting, out, plan, budget=1.0)
    said = ' '.join(capsys.readouterr().out.split())
    assert 'group0 │ 8 │ 24 │ 512 │ stays dense │' in said
    report = json.loads((out / 'report.json').read_text())
    assert report['groups'] == report['errors'] == []
    assert report['kept_dense'][0]['name'] == 'group0'
    assert report['parameters'] == report['dense_parameters']
    size = report['original_bytes']
    assert size < report['file_bytes'] < size + 16_000  # the header
    assert 'so kept dense: group0' in (out / 'report.md').read_text()
    cfg = load_config(str(out / 'config.py'), work_dir=str(tmp_path))
    original.work_dir = str(tmp_path)
    expected = evaluate(original, str(setting[0]))
    assert evaluate(cfg, str(out / 'compressed.safetensors')) == expected
