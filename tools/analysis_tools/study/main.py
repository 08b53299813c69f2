"""The command line of studies."""

import argparse
from functools import partial
from pathlib import Path
from typing import Optional, Tuple

from halvit_mm.apis.cli import add_config_options, errors_in_short

from .plan import Study
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


def folders_of(
    study: Study, out: Optional[str], work_dir: Optional[str]
) -> Tuple[Path, Path]:
    """Find the folders of one study or stage.

    Args:
        study: The study.
        out, work_dir: As given on the command line, for all stages.

    Returns:
        That of its results, and that of its checkpoints and logs.
    """
    return (
        Path(out) / study.stage if out else study.out,
        Path(work_dir) / study.stage if work_dir else study.work_dir,
    )


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
    given = args.study, args.cfg_options, args.stage
    for study in stages(*given, out=args.out and Path(args.out)):
        out, work = folders_of(study, args.out, args.work_dir)
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
