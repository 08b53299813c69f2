"""What the hosts print while they are imported."""

import logging
import sys

import mmengine.logging
import pytest

import halvit_mm

from ..commands import run


def test_importing_the_hosts_is_quiet():
    code = (
        'import halvit_mm\n'
        'import mmdet.datasets, mmpretrain.datasets\n'
        'print("done")\n'
    )
    assert run(sys.executable, '-W', 'ignore', '-c', code).stdout == 'done\n'


def test_debug_messages_go_to_the_log(capsys, caplog):
    caplog.set_level(logging.DEBUG, logger='halvit_mm')
    mmengine.logging.print_log('a detail', level=logging.DEBUG)
    assert not capsys.readouterr().out
    assert caplog.messages == ['a detail']


@pytest.mark.parametrize('level', [logging.INFO, logging.WARNING])
def test_other_messages_are_printed(level, capsys):
    mmengine.logging.print_log('a fact', level=level)
    assert capsys.readouterr().out == 'a fact\n'


def test_wrapped_once():
    wrapped = mmengine.logging.print_log
    halvit_mm.compat.install()
    assert mmengine.logging.print_log is wrapped
