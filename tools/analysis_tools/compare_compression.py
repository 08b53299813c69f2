"""Compress a checkpoint in many ways and compare what comes out.

    compare_compression.py configs/studies/fips_cifar10.yaml

What stands in the results is not run again; what was interrupted goes on.
"""

import argparse
from pathlib import Path

from halvit_mm.apis.cli import add_study_arguments
from halvit_mm.apis.compress import (
    CompressionStudy,
    print_compression_study,
    run_compression_study,
    write_compression_study,
)
from halvit_mm.visualization import draw_compression_study


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_study_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    study = CompressionStudy.load(args.study, args.cfg_options)
    out = Path(args.out or f'docs/studies/{study.name}')
    work_dir = Path(args.work_dir or f'work_dirs/studies/{study.name}')

    def write(results):
        if not results:
            return
        write_compression_study(study, results, out)
        draw_compression_study(study.metric, results, str(out / 'scores.png'))

    results = run_compression_study(
        study, work_dir, out, args.jobs, args.variants, after=write
    )
    print_compression_study(study, results)
    print(f'written to {out}')


if __name__ == '__main__':
    main()
