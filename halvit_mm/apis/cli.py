"""Arguments that several tools take."""

import argparse
import contextlib
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Iterator, Optional

from mmengine.config import Config, DictAction

from ..checkpoint import trust_files
from .config import AMP_CHOICES, load_config

#: What PyTorch makes of an error in a process that loads data: the name of
#: its type, the traceback, and the sentence at the end.
_OF_A_WORKER = re.compile(
    r'Caught (?P<type>\w+) in DataLoader worker process .*'
    r'  File "(?P<path>[^"\n]+)", line \d+, in [^\n]+\n'
    r'(?:    [^\n]*\n)*(?P=type): (?P<sentence>.*?)\n?',
    re.DOTALL,
)
_SPACE = '\0'  # no argument of a command has it
#: Errors of the system whose text has the path.
_OF_FILES = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


class OptionAction(DictAction):
    """mmengine's ``key=value``, whose errors are those of the parser.

    Spaces inside of a value stay, as in a path or a class's name: mmengine
    removes them.
    """

    @staticmethod
    def _parse_iterable(val: str):
        text = re.sub(r'\s*([,()\[\]])\s*', r'\1', val.strip('\'"'))
        return _spaced(DictAction._parse_iterable(text.replace(' ', _SPACE)))

    def __call__(self, parser, namespace, values, option_string=None):
        """Read options, as :class:`argparse.Action` documents."""
        for text in values:
            if '=' not in text:
                raise argparse.ArgumentError(self, f'{text!r} has no "=value"')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that are not closed
            raise argparse.ArgumentError(self, f'{error}') from None


def _spaced(value):
    if isinstance(value, str):
        return value.replace(_SPACE, ' ')
    if isinstance(value, (list, tuple)):
        return type(value)(_spaced(each) for each in value)
    return value


class TrustAction(argparse.Action):
    """Lets files run code, from the moment it is read."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Call :func:`.trust_files`."""
        trust_files()


def read_config(path: str, options: Optional[dict], **kwargs) -> Config:
    """Call :func:`.load_config`; its errors end the tool in one line.

    Args:
        path: Config file.
        options: The value of ``--cfg-options``.
        kwargs: Further arguments.
    """
    try:
        return load_config(path, options, **kwargs)
    except (OSError, ValueError) as error:
        sys.exit(f'{error}')


@contextlib.contextmanager
def errors_in_short() -> Iterator[None]:
    """End a tool with the sentence of an error, where it is one of ours.

    It names the file and the cure. Ours are those that this package or the
    tool raises, also in a process that loads data. Errors of others keep
    their traceback, but for files that cannot be opened: those are named.
    """
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        path, sentence = frame.f_code.co_filename, f'{error}'
        if found := _OF_A_WORKER.fullmatch(sentence):
            path, sentence = found['path'], found['sentence']
        if not (isinstance(error, _OF_FILES) or _is_ours(path)):
            raise
        sys.exit(sentence)


def _is_ours(path: str) -> bool:
    """Whether a source file is of this package or beside the tool's."""
    tool = getattr(sys.modules['__main__'], '__file__', None) or __file__
    folders = Path(__file__).parents[1], Path(tool).resolve().parent
    return any(Path(path).resolve().is_relative_to(x) for x in folders)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` to a parser."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionAction,
        default={},
        help='settings to override, key=value; data_root=... moves all data, '
        'classes=auto takes the classes from the annotations',
    )


def add_unsafe_load(parser: argparse.ArgumentParser) -> None:
    """Add ``--unsafe-load`` to a parser."""
    parser.add_argument(
        '--unsafe-load',
        action=TrustAction,
        nargs=0,
        help='let files of weights run the code that is in them: only of '
        'people whom you would let use your account',
    )


def add_amp_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--amp`` to a parser."""
    parser.add_argument(
        '--amp', choices=AMP_CHOICES, help='mixed precision (fp16 needs a GPU)'
    )


def add_shape_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--shape`` to a parser; ``default`` is its default in words."""
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help=f'image size in pixels; by default {default}',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing have in common."""
    parser.add_argument(
        '--work-dir', help='output folder; work_dirs/<config> by default'
    )
    add_amp_argument(parser)
    add_config_options(parser)
    add_unsafe_load(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # mmengine reads the environment, which torchrun sets
    os.environ.setdefault('LOCAL_RANK', '0')
