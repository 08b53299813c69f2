"""The model zoo: what is committed is what the configs give."""

import pytest
import yaml

from halvit_mm.apis.model_zoo import load_zoo, write_metafile, write_page

from ..tools.conftest import ROOT

CONFIGS, DOCS = ROOT / 'configs', ROOT / 'docs'


@pytest.fixture(scope='module')
def entries():
    return load_zoo(CONFIGS)


def test_counts(entries):
    """Backbone and classifier, as integers."""
    counts = {
        e.config.removeprefix('pretrain/').removesuffix('_in1k'): (
            e.backbone.stored,
            e.total.stored,
        )
        for e in entries
    }
    assert counts['halvit_t'] == (11_048_832, 11_433_832)
    assert counts['halvit_m'] == counts['vit_pe'] == (43_331_328, 44_100_328)
    assert counts['halvit_m_shared'] == (10_789_632, 11_558_632)
    assert counts['resnet50_pe1'][0] == 12_833_152
    assert counts['resnet50_pe2'][0] == 13_466_176
    assert counts['resnet50'][0] == 23_508_032
    assert counts['vit_b_groupedmlp'][1] == 58_233_064
    assert counts['vit_b_shallowmlp'][1] == 58_237_672
    assert counts['vit_b'][1] == 86_567_656
    for size in 'tm':  # signs are constants
        assert counts[f'halvit_{size}_signed'] == counts[f'halvit_{size}']


def test_signs_and_sharing_cost_no_multiply_adds(entries):
    macs = {e.config: e.total.macs for e in entries}
    halvit = macs['pretrain/halvit_m_in1k']
    assert macs['pretrain/halvit_m_signed_in1k'] == halvit
    assert macs['pretrain/halvit_m_shared_in1k'] == halvit
    assert macs['pretrain/vit_b_in1k'] == halvit
    assert macs['pretrain/vit_b_groupedmlp_in1k'] == halvit


def test_the_committed_files_are_up_to_date(entries, tmp_path):
    write_metafile(entries, tmp_path / 'metafile.yml')
    write_page(entries, tmp_path / 'zoo.md', 'images/model_zoo.png')
    for name, path in (
        ('metafile.yml', CONFIGS / 'metafile.yml'),
        ('zoo.md', DOCS / 'model_zoo.md'),
    ):
        assert (tmp_path / name).read_text() == path.read_text()


def test_every_pretraining_config_has_a_row(entries):
    configs = {e.config for e in entries}
    files = {f'pretrain/{p.stem}' for p in (CONFIGS / 'pretrain').glob('*.py')}
    assert configs == files


def test_a_number_of_ours_was_measured():
    """What the papers say never stands in a column of ours."""
    measured = yaml.safe_load((CONFIGS / 'zoo' / 'measured.yml').read_text())
    for name, values in (measured or {}).items():
        assert (CONFIGS / f'{name}.py').is_file()
        assert set(values) <= {'latency_ms', 'top1', 'top5'}
