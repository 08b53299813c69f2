"""A batch that a worker cannot send is an error, not an endless wait."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader

from halvit_mm.apis import training
from halvit_mm.engine.processes import prepare_workers


class Unsendable:
    """Something whose way to another process ends in an error."""

    def __init__(self, message):
        self.message = message

    def __reduce__(self):
        raise RuntimeError(self.message)


@pytest.mark.parametrize(
    ('message', 'kind', 'told'),
    [
        (
            'unable to allocate shared memory(shm) for file </torch_1_2_3>: '
            'Success (0)',
            OSError,
            r'/dev/shm, [\d,]+\.\d MB, has no space for a batch.*'
            '--shm-size=8g.*num_workers=0',
        ),
        (
            'no way',
            RuntimeError,
            'in DataLoader worker process 0(.|\n)*no way',
        ),
    ],
)
def test_a_batch_that_cannot_be_sent(message, kind, told):
    loader = DataLoader(
        [1, Unsendable(message)],
        batch_size=None,
        num_workers=1,
        timeout=30,  # it would be another error
    )
    prepare_workers(loader)
    batches = iter(loader)
    assert next(batches) == 1
    with pytest.raises(kind, match=told):
        next(batches)
    batches.__del__()  # collected in a cycle, it would wait for 5 s


def test_runners_without_such_workers_are_warned_of(monkeypatch):
    said = []
    other = SimpleNamespace(
        logger=SimpleNamespace(warning=said.append),
        register_hook=lambda hook: None,
    )
    monkeypatch.setattr(training.RUNNERS, 'build', lambda cfg: other)
    cfg = Config(dict(launcher='none', runner_type='Mine'))
    assert training.build_runner(cfg) is other
    assert 'runner_type=Mine is no halvit_mm.engine.Runner' in said[0]
