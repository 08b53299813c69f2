"""The command line of studies."""

import argparse
from functools import partial
from pathlib import Path

from halvit_mm.apis.cli import add_config_options, errors_in_short

from .report import study_table, write_study
from .rule import judge
from .runner import run_study
from .stages import stages


def study_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser with the arguments of every tool that takes a study.

    Args:
        description: What the tool does.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('study', help='YAML file')
    parser.add_argument(
        '--out', help='folder of the results, default docs/studies/NAME'
    )
    parser.add_argument(
        '--work-dir',
        help='folder of checkpoints and logs, default work_dirs/studies/NAME',
    )
    return parser


def _parse_args(description: str) -> argparse.Namespace:
    parser = study_parser(description)
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='runs at a time, which share the cores, default 1',
    )
    parser.add_argument('--stage', help='run this one only, default all')
    parser.add_argument(
        '--variants', nargs='+', help='run these only, default all'
    )
    add_config_options(parser)
    return parser.parse_args()


@errors_in_short()
def main(description: str) -> None:
    """Run a study from the command line and write what came out.

    Args:
        description: What the tool does.
    """
    args = _parse_args(description)
    folders = (
        args.out and Path(args.out),
        args.work_dir and Path(args.work_dir),
    )
    given = args.study, args.cfg_options, args.stage, folders[0]
    for study in stages(*given):
        out = folders[0] / study.stage if folders[0] else study.out
        work = folders[1] / study.stage if folders[1] else study.work_dir
        results = run_study(
            study,
            work,
            out / 'results.json',
            args.jobs,
            args.variants,
            after=partial(write_study, study, out=out),
        )
        study_table(study, results).print()
        if study.rule:
            print(judge(study, results))
        print(f'written to {out}')
