"""The tools as a user calls them, on tiny data."""

import json
import shutil

import pytest
import torch

from halvit_mm import compat
from tests.apis.test_coco_summary import HOST_NAMES, reference

from ..commands import run
from .conftest import CLASSIFIER, DETECTOR, tool


def log_of(work_dir):
    return ''.join(p.read_text() for p in work_dir.glob('*/*.log'))


def test_pretraining_feeds_detection(pretrained, detected):
    compat.install()  # the host's loader withdraws what it announced
    saved = torch.load(pretrained / 'epoch_1.pth', weights_only=True)
    assert saved['meta']['epoch'] == 1
    log = log_of(detected)
    assert 'loaded 100.0% of the bytes of HaLViT' in log
    assert 'BFloat16OptimWrapper' in log
    assert 'NMS and RoIAlign run on torchvision' in log


def test_evaluation_equals_pycocotools(shapes, detected, tmp_path):
    options = [
        f'data_root={shapes}/detection',
        'model.test_cfg.rcnn.score_thr=0.0',  # untrained: keep something
    ]
    command = ('test', DETECTOR, detected / 'epoch_1.pth')
    output = tool(*command, work_dir=tmp_path, options=options).stdout
    summary = json.loads((tmp_path / 'coco_summary.json').read_text())
    logged = json.loads(next(tmp_path.glob('*/*.json')).read_text())
    ann_file = shapes / 'detection/annotations/val.json'
    for kind in ('bbox', 'segm'):
        files = (str(ann_file), str(tmp_path / f'results.{kind}.json'))
        stats = reference(files, kind)
        assert list(summary[kind].values()) == pytest.approx(stats, abs=1e-6)
        for name, value in zip(HOST_NAMES, stats):
            assert logged[f'coco/{kind}_{name}'] == round(value, 3)
        assert f'{summary[kind]["AP"]:.6f}' in output


def test_classifier_is_tested_by_the_same_tool(shapes, pretrained, tmp_path):
    options = [f'data_root={shapes}/classification']
    command = ('test', CLASSIFIER, pretrained / 'epoch_1.pth', '--amp', 'bf16')
    output = tool(*command, work_dir=tmp_path, options=options).stdout
    assert 'accuracy/top1' in output


def test_resume_goes_on_from_the_last_epoch(
    detection_options, detected, tmp_path
):
    # It deletes the checkpoint it starts from, which other tests need.
    work_dir = shutil.copytree(detected, tmp_path / 'run')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    options = [*detection_options, 'train_cfg.max_epochs=2']
    command = ('train', DETECTOR, '--resume')
    output = tool(*command, work_dir=work_dir, options=options).stdout
    assert 'resumed epoch: 1' in output
    assert 'Epoch(train) [1]' not in output
    assert (work_dir / 'epoch_2.pth').is_file()


def test_own_data_without_workers(shapes, tmp_path):
    """Ten images, two a step: the schedule of 500 steps is fitted to 5."""
    output = tool(
        'train',
        DETECTOR,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        f'data_root={shapes}/detection',
        'classes=auto',
        'model.backbone.init_cfg=None',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'auto_scale_lr.base_batch_size=8',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
    ).stdout
    for line in (
        'num_workers=0: no persistent_workers, no prefetch_factor in '
        'train_dataloader, val_dataloader',
        'schedule fitted to 5 steps: param_scheduler.0.end 50 -> 2, '
        'param_scheduler.1.begin 50 -> 2, param_scheduler.1.end 500 -> 5',
        'the learning rate 0.0005 is for 8 images a step, but this run has '
        '1 x 2 = 2: the linear rule gives 0.000125; --auto-scale-lr applies',
    ):
        assert line in output
    assert len(output.partition('Epoch(train)')[0].splitlines()) <= 30
    assert '[1][1/5]  lr: 5.0000e-06' in output
    assert '[1][2/5]  lr: 5.0000e-04' in output
    assert '[1][5/5]  lr: 1.2500e-04' in output  # 2 of the cosine's 3 steps


def test_pictures(shapes, detected, tmp_path):
    results = tmp_path / 'results.json'
    results.write_text(
        json.dumps(
            [dict(image_id=1, category_id=1, bbox=[9, 9, 30, 30], score=0.9)]
        )
    )
    data = shapes / 'detection'
    for name, args in {
        'draw_detections': (
            data / 'annotations/val.json',
            data / 'val',
            results,
        ),
        'draw_curves': (detected,),
    }.items():
        out = tmp_path / f'{name}.png'
        tool(f'analysis_tools/{name}', *args, out=out)
        assert out.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('args', 'root', 'message'),
    [
        (['--resume'], 'data', '--resume: there is no whole checkpoint in'),
        (
            [],
            'nowhere',
            'there is no annotation file nowhere/annotations/train.json',
        ),
    ],
)
def test_errors_reach_the_screen(args, root, message, tmp_path):
    options = ['model.backbone.init_cfg=None', f'data_root={root}']
    command = ('train', DETECTOR, *args)
    result = tool(*command, work_dir=tmp_path, options=options, check=False)
    assert result.returncode != 0
    assert message in result.stdout


def test_an_infinite_rate_ends_with_a_status_of_its_own(shapes, tmp_path):
    options = [
        f'data_root={shapes}/classification',
        'optim_wrapper.optimizer.lr=inf',
        'broken_numbers.max_skipped=1',
    ]
    command = ('train', CLASSIFIER)
    result = tool(*command, work_dir=tmp_path, options=options, check=False)
    assert result.returncode == 3
    assert 'skipped (1 in a row, at most 1); images: [' in result.stdout
    assert 'The last good checkpoint is None' in result.stdout
    assert 'Traceback' not in result.stdout
    assert list(tmp_path.glob('*.pth')) == []


def test_a_training_is_watched(shapes, tmp_path):
    options = [f'data_root={shapes}/classification', 'watchdog_minutes=0']
    command = ('train', CLASSIFIER)
    result = tool(*command, work_dir=tmp_path, options=options, check=False)
    assert result.stdout.endswith('watchdog_minutes=0: positive, or None\n')


def test_a_foreign_checkpoint_is_not_evaluated(pretrained, shapes, tmp_path):
    options = [f'data_root={shapes}/detection']
    command = ('test', DETECTOR, pretrained / 'epoch_1.pth')  # a classifier's
    result = tool(*command, work_dir=tmp_path, options=options, check=False)
    assert result.returncode != 0
    assert 'does not fit MaskRCNN: it covers' in result.stdout


def test_scripts_print_their_usage():
    for script in ('dist_train', 'dist_test', 'slurm_train', 'slurm_test'):
        result = run('bash', f'tools/{script}.sh', check=False)
        assert result.returncode != 0
        assert f'{script}.sh' in result.stdout
        assert 'CONFIG' in result.stdout
