"""The model zoo: what is committed is what the configs give."""

import shutil

import matplotlib.pyplot as plt
import pytest
import yaml
from matplotlib.colors import to_rgb
from mmengine.registry import DefaultScope
from modelindex.load_model_index import load
from zoo import models as zoo_models
from zoo.models import load_zoo, measure_zoo
from zoo.picture import draw_zoo
from zoo.report import write_metafile, write_page, zoo_points

from halvit_mm.apis.timing import device_name

from ..commands import ROOT
from .conftest import tool

CONFIGS, DOCS = ROOT / 'configs', ROOT / 'docs'
SCORES = dict(top1=76.54, top5=93.21)


@pytest.fixture(scope='module')
def zoo():
    # It is older than what isolates each test: the scope would stay.
    with pytest.MonkeyPatch.context() as patch:
        scopes = DefaultScope._instance_dict.copy()
        patch.setattr(DefaultScope, '_instance_dict', scopes)
        return load_zoo(CONFIGS)


@pytest.fixture
def make_root(tmp_path):
    """A repository with some of the models, one of which has scores."""

    def make(*models, detectors=()):
        for folder in ('_base_', 'pretrain'):
            shutil.copytree(CONFIGS / folder, tmp_path / 'configs' / folder)
        for name in detectors:
            shutil.copy(CONFIGS / f'{name}.py', tmp_path / 'configs')
        (tmp_path / 'configs' / 'zoo').mkdir()
        (tmp_path / 'docs' / 'images').mkdir(parents=True)
        papers = read(CONFIGS / 'zoo' / 'papers.yml')
        for key, kept in (('models', models), ('detectors', detectors)):
            rows = papers[key]
            papers[key] = [row for row in rows if row['config'] in kept]
            assert len(papers[key]) == len(kept)
        measured = {models[0]: SCORES}
        for name, content in (('papers', papers), ('measured', measured)):
            path = tmp_path / 'configs' / 'zoo' / f'{name}.yml'
            path.write_text(f'# {name}\n' + yaml.safe_dump(content))
        return tmp_path

    return make


def read(path):
    return yaml.safe_load(path.read_text())


def test_counts(zoo):
    """Backbone and classifier, as integers."""
    counts = {
        e.config.removeprefix('pretrain/').removesuffix('_in1k'): (
            e.parts[0].stored,
            e.stored,
        )
        for e in zoo.classifiers
    }
    assert counts['halvit_t'] == (11_048_832, 11_433_832)
    assert counts['halvit_m'] == counts['vit_pe'] == (43_331_328, 44_100_328)
    assert counts['halvit_m_shared'] == (10_789_632, 11_558_632)
    assert counts['resnet50_pe1'][0] == 12_833_152
    assert counts['resnet50_pe2'][0] == 13_466_176
    assert counts['resnet50'][0] == 23_508_032
    assert counts['vit_b_groupedmlp'][1] == 58_233_064
    assert counts['vit_b_grouped'] == counts['halvit_m']
    assert counts['vit_b_shallowmlp'][1] == 58_237_672
    assert counts['vit_b'][1] == 86_567_656
    for size in 'tm':  # signs are constants
        assert counts[f'halvit_{size}_signed'] == counts[f'halvit_{size}']


def test_counts_of_detectors(zoo):
    """A detector stores less by what its backbone does."""
    stored = {e.config.removeprefix('maskrcnn_'): e for e in zoo.detectors}
    backbones = {
        e.config.removeprefix('pretrain/').removesuffix('_in1k'): e.parts[0]
        for e in zoo.classifiers
    }
    for tied, untied in (
        ('halvit_t', 'vit_s'),
        ('halvit_m', 'vit_b'),
        ('halvit_m_shared', 'vit_b'),
        ('vit_b_groupedmlp', 'vit_b'),
        ('vit_b_grouped', 'vit_b'),
        ('vit_b_shallowmlp', 'vit_b'),
    ):
        less = stored[untied].stored - stored[tied].stored
        expected = backbones[untied].stored - backbones[tied].stored
        assert less == expected > 0
        if 'shallow' not in tied:
            assert stored[tied].effective == stored[untied].stored
    # A mask head: four convolutions, one transposed, one for 80 classes
    mask_head = 4 * (9 * 256**2 + 256) + (4 * 256**2 + 256) + 80 * 257
    for name in ('halvit_t', 'vit_s'):
        boxes = stored[f'fasterrcnn_{name}']
        assert stored[name].stored - boxes.stored == mask_head
    assert {e.size for e in zoo.detectors} == {(800, 1344), (1024, 1024)}


def test_signs_and_sharing_cost_no_multiply_adds(zoo):
    macs = {e.config: e.parts[1].macs for e in zoo.classifiers}
    halvit = macs['pretrain/halvit_m_in1k']
    assert macs['pretrain/halvit_m_signed_in1k'] == halvit
    assert macs['pretrain/halvit_m_shared_in1k'] == halvit
    assert macs['pretrain/vit_b_in1k'] == halvit
    assert macs['pretrain/vit_b_groupedmlp_in1k'] == halvit
    assert macs['pretrain/vit_b_grouped_in1k'] == halvit


def test_the_papers_count_what_their_column_says(zoo):
    """Every figure but the one that cannot be is near its own column."""
    wrong = []
    for entry in zoo.classifiers:
        ours = dict(params_backbone=entry.parts[0].stored, params=entry.stored)
        for key in ours.keys() & entry.paper.keys():
            printed = entry.paper[key]
            far = {k: abs(printed - n / 1e6) for k, n in ours.items()}
            if far[key] > min(0.4, *far.values()):
                wrong.append(entry.paper['name'])
    assert wrong == ['HaLViT-M*']


def test_the_committed_files_are_up_to_date(zoo, tmp_path):
    write_metafile(zoo, tmp_path / 'metafile.yml')
    write_page(zoo, tmp_path / 'zoo.md', 'images/model_zoo.png')
    for name, path in (
        ('metafile.yml', CONFIGS / 'metafile.yml'),
        ('zoo.md', DOCS / 'model_zoo.md'),
    ):
        assert (tmp_path / name).read_text() == path.read_text()


@pytest.mark.parametrize(
    ('part', 'pattern'),
    [('classifiers', 'pretrain/*.py'), ('detectors', '*rcnn_*.py')],
)
def test_every_config_has_a_row(zoo, part, pattern):
    rows = [f'{entry.config}.py' for entry in getattr(zoo, part)]
    files = (path.relative_to(CONFIGS) for path in CONFIGS.glob(pattern))
    assert sorted(rows) == sorted(map(str, files))


def test_the_index_is_openmmlab_s():
    """Its own reader finds all models, each with a collection and a task."""
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == 32
    names = {collection.name for collection in index.collections}
    assert names == {model.in_collection for model in index.models}
    tasks = {}
    for model in index.models:
        assert not model.check_errors
        full = model.full_model  # with what its collection says
        assert full.paper['Title'] and full.metadata.architecture
        assert (ROOT / full.readme).is_file()
        assert (ROOT / model.config).is_file()
        assert model.metadata.parameters > 1e7
        tasks[model.config] = [result.task for result in model.results]
    assert tasks['configs/pretrain/vit_pe_in1k.py'] == ['Image Classification']
    assert tasks['configs/maskrcnn_halvit_m.py'] == [
        'Object Detection',
        'Instance Segmentation',
    ]
    boxes = tasks['configs/fasterrcnn_halvit_t.py']
    assert boxes == ['Object Detection']


def test_a_number_of_ours_was_measured():
    """What the papers say never stands in a column of ours."""
    measured = read(CONFIGS / 'zoo' / 'measured.yml')
    assert measured.pop('device')  # that the latencies belong to
    for name, values in measured.items():
        assert (CONFIGS / f'{name}.py').is_file()
        if 'rcnn_' in name:
            assert set(values) <= {'box_ap', 'mask_ap'}
        else:
            assert set(values) <= {'latency_ms', 'top1', 'top5'}


def test_latencies(make_root, monkeypatch):
    """What is the same model is timed once and shares a figure."""
    models = [
        f'pretrain/{name}_in1k'
        for name in ('halvit_t', 'halvit_t_600e', 'halvit_m', 'vit_pe')
    ]
    root, timed = make_root(*models), []

    def fake(passes, rounds, in_a_row):
        assert (rounds, in_a_row) == (5, 3)
        timed.extend(passes.values())
        seconds = dict(tiny=0.1024, medium=0.302)
        return {key: seconds[arch] for key, arch in passes.items()}

    monkeypatch.setattr(zoo_models, 'time_in_turns', fake)
    measure_zoo(root / 'configs', 5, lambda cfg: cfg.model.backbone.arch)
    assert timed == ['tiny', 'medium']
    path = root / 'configs' / 'zoo' / 'measured.yml'
    assert path.read_text().startswith('# measured\n')
    small, small_600e, medium, pe = (read(path)[name] for name in models)
    assert small == dict(SCORES, latency_ms=102)
    assert small_600e == dict(latency_ms=102)
    assert medium == pe == dict(latency_ms=302)
    assert read(path)['device'] == device_name()


def test_the_tool_and_our_own_scores(make_root):
    """From what was measured to page, metafile and picture."""
    name, detector = 'pretrain/halvit_t_in1k', 'maskrcnn_halvit_t'
    root = make_root(name, detectors=[detector])
    args = ('--root', root, '--latency', '--repeats', 1)
    tool('analysis_tools/model_zoo', *args)
    latency = read(root / 'configs' / 'zoo' / 'measured.yml')[name]
    assert latency['latency_ms'] > 0
    page = (root / 'docs' / 'model_zoo.md').read_text()
    row = next(x for x in page.splitlines() if f'{name}.py' in x).split(' | ')
    assert row[1:3] == ['76.54 / 93.21', '77.3 / -']
    assert row[-1].strip(' |') == str(latency['latency_ms'])
    row = next(x for x in page.splitlines() if f'{detector}.py' in x)
    assert '| - | 35.3 | - | 33.3 |' in row
    first, second = read(root / 'configs' / 'metafile.yml')['Models']
    assert first['Results'] == [
        {
            'Task': 'Image Classification',
            'Dataset': 'ImageNet-1k',
            'Metrics': {'Top 1 Accuracy': 76.54, 'Top 5 Accuracy': 93.21},
        }
    ]
    assert [result['Metrics'] for result in second['Results']] == [{}, {}]
    assert second['Metadata']['Parameters'] == 31_890_128
    assert num_red(root / 'docs' / 'images' / 'model_zoo.png') > 50


def test_points(zoo):
    methods, others, _ = zoo_points(zoo)
    assert ('HaLViT-M', 44.0, 81.3) in methods
    assert ('HaLViT-T', 11.1, 77.3) in methods
    assert ('Swin-T', 29.0, 81.3) in others
    entry = zoo.classifiers[0]._replace(measured=SCORES)
    *_, ours = zoo_points(zoo._replace(classifiers=[entry]))
    assert ours == [('HaLViT-T', 11.433832, 76.54)]


def num_red(path):
    """Pixels in the colour of what was measured here."""
    distance = abs(plt.imread(path)[..., :3] - to_rgb('tab:red')).max(-1)
    return (distance < 0.02).sum()


def test_picture(tmp_path):
    methods = [('one', 11.1, 77.3), ('close to it', 11.2, 77.4)]
    others = [('another', 29.0, 81.3)]
    for name, ours in (('none', []), ('some', [('one', 11.4, 76.5)])):
        draw_zoo(methods, others, ours, str(tmp_path / f'{name}.png'))
    assert num_red(tmp_path / 'none.png') == 0
    assert num_red(tmp_path / 'some.png') > 50
