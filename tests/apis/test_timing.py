"""The clock, and functions that take turns."""

import pytest
import torch

from halvit_mm.apis import timing
from halvit_mm.apis.timing import (
    Clock,
    device_name,
    round_robin,
    time_in_turns,
)


class Counter:
    """Stands for the module ``time``; the tests let its time pass."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def counter(monkeypatch):
    counter = Counter()
    monkeypatch.setattr(timing, 'time', counter)
    return counter


def test_the_clock(counter):
    clock = Clock('cpu')
    for phase, seconds in (
        ('forward', 1),
        ('backward', 2),
        (None, 8),  # belongs to none
        ('forward', 0.5),
        (None, 0),
    ):
        clock.mark(phase)
        counter.now += seconds
    assert clock.phases() == {'forward': 1500, 'backward': 2000}


def test_rounds_begin_with_another_name_each_time():
    assert list(round_robin('abc', 4)) == [
        ['a', 'b', 'c'],
        ['b', 'c', 'a'],
        ['c', 'a', 'b'],
        ['a', 'b', 'c'],
    ]
    assert list(round_robin([], 2)) == [[], []]


def test_turns(counter):
    """A slow moment falls on one turn; the median does not see it."""
    calls = []

    def make(name, seconds):
        def run():
            calls.append(name)
            slow = 10 if 4 < len(calls) < 7 else 1  # the first round
            counter.now += seconds * (100 if len(calls) < 3 else slow)

        return run

    runs = {'a': make('a', 1), 'b': make('b', 2)}
    assert time_in_turns(runs, 3, in_a_row=2) == {'a': 1, 'b': 2}
    turns = ['aa', 'bb', 'bb', 'aa', 'aa', 'bb']
    assert ''.join(calls) == 'ab' + ''.join(turns)


def test_no_rounds():
    with pytest.raises(ValueError, match='rounds=0'):
        time_in_turns({}, 0)


def test_the_cpu_is_named():
    name, _, threads = device_name().rpartition(', ')
    assert name
    assert threads.split()[0] == str(torch.get_num_threads())
