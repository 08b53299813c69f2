"""Run a study, configs times seeds, and compare what comes out.

    compare.py configs/studies/cifar10.yaml

What stands in the results is not run again; what was interrupted goes on.
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from halvit_mm.apis.study import Study, print_study, run_study, write_study
from halvit_mm.visualization import draw_study


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
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
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='trainings at a time, which share the cores, default 1',
    )
    parser.add_argument(
        '--variants', nargs='+', help='run these only, default all'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='options of every run, over those of the file',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    study = Study.load(args.study, args.cfg_options)
    out = Path(args.out or f'docs/studies/{study.name}')
    work_dir = Path(args.work_dir or f'work_dirs/studies/{study.name}')

    def write(results):
        if not results:
            return
        write_study(study, results, out)
        draw_study(study.metric, results, str(out / 'scores.png'))

    results = run_study(
        study, work_dir, out, args.jobs, args.variants, after=write
    )
    print_study(study, results)
    print(f'written to {out}')


if __name__ == '__main__':
    main()
