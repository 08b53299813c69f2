"""What a training shows while it runs."""

from importlib.util import find_spec

from .conftest import ONE_EPOCH, assert_picture, tool

OWN_DATA = 'configs/custom/maskrcnn_vit_s_dinov2.py'


def test_long_lists_are_in_the_file_only(shapes, tmp_path):
    data = shapes / 'detection'
    options = [
        f'data_root={data}',
        f'val_evaluator.ann_file={data}/annotations/val.json',
        'train_dataloader.dataset.ann_file=annotations/train.json',
        'val_dataloader.dataset.ann_file=annotations/val.json',
        'model.backbone.init_cfg=None',
        'model.backbone.frozen_stages=12',
        # two small pictures, one step
        'train_dataloader.dataset.indices=2',
        'train_dataloader.dataset.pipeline.2.scales=[(64,64)]',
        'val_dataloader.dataset.pipeline.1.scale=(64,64)',
        'train_dataloader.batch_size=2',
        'default_hooks.logger.interval=1',
        *ONE_EPOCH,
    ]
    has_tensorboard = find_spec('tensorboard') is not None
    flags = dict(log='tensorboard') if has_tensorboard else {}
    flags.update(work_dir=tmp_path, options=options)
    output = tool('train', OWN_DATA, **flags).stdout
    before, _, after = output.partition('Epoch(train) [1][1/1]')
    assert len(before.splitlines()) <= 30
    (file,) = tmp_path.glob('*/*.log')
    log = file.read_text()
    assert f'settings of each parameter are in {file}' in before
    assert 'annotations/train.json: 10 images (0 without objects)' in before
    assert 'learning rates by depth' in before
    for text in ('System environment', 'Config:\n', 'paramwise_options -- '):
        assert text in log and text not in output
    skipped = 'is skipped since its requires_grad=False'
    assert log.count(skipped) == 150 and skipped not in output
    line = after.splitlines()[0]
    for text in ('eta: ', 'loss: ', 'images/s: ', 'memory: '):
        assert text in line
    assert 'Traceback' not in output  # nor of workers, at the end
    assert_picture(tmp_path / 'curves.png')
    events = list(tmp_path.glob('tensorboard/events.*'))
    assert len(events) == has_tensorboard
    names = {path.name for path in (tmp_path / 'samples/epoch_1').iterdir()}
    assert names == {f'{number:06d}.jpg' for number in range(1, 5)}


def test_collapsing_features_are_looked_for(detected):
    """By default, in every training of a backbone."""
    (file,) = detected.glob('*/vis_data/scalars.json')
    assert '"varying_share": ' in file.read_text()
