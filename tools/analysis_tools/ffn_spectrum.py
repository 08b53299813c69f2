"""What the FFNs of a study's variants do to their input.

    ffn_spectrum.py configs/studies/cifar10.yaml \
        --variants untied tied 'tied, fixed signs'

The share of the output along the input and the eigenvalues of the Jacobian,
of fresh weights and of each variant's first trained run.
"""

import argparse
import json
from pathlib import Path

import torch
from mmengine.runner import find_latest_checkpoint

from halvit_mm.apis import load_config
from halvit_mm.apis.ffn_spectrum import ffn_statistics, first_images
from halvit_mm.apis.model_info import build_model
from halvit_mm.apis.study import Study
from halvit_mm.checkpoint import read_state_dict
from halvit_mm.visualization import draw_ffn


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('study', help='YAML file')
    parser.add_argument('--variants', nargs='+', required=True)
    parser.add_argument(
        '--out', help='folder of the results, default docs/studies/NAME'
    )
    parser.add_argument(
        '--work-dir',
        help='folder of checkpoints, default work_dirs/studies/NAME',
    )
    return parser.parse_args()


def measure(run, work_dir):
    """Returns: Statistics of every layer at the start and after training."""
    cfg = load_config(run.config, run.options)
    torch.manual_seed(run.seed)
    model = build_model(cfg)
    model.init_weights()
    images = first_images(cfg, model)
    moments = {}
    for moment in ('start', 'trained'):
        if moment == 'trained':
            path = find_latest_checkpoint(str(work_dir / run.folder))
            if path is None:
                raise FileNotFoundError(
                    f'{run.variant}: no checkpoint in {work_dir / run.folder}'
                )
            model.load_state_dict(read_state_dict(path))
        layers = ffn_statistics(model.backbone, images)
        moments[moment] = [layer._asdict() for layer in layers]
    return moments


def main():
    args = parse_args()
    study = Study.load(args.study)
    out = Path(args.out or f'docs/studies/{study.name}')
    work_dir = Path(args.work_dir or f'work_dirs/studies/{study.name}')
    first = {run.variant: run for run in reversed(study.runs)}
    unknown = [name for name in args.variants if name not in first]
    if unknown:
        raise ValueError(f'no variants {unknown}: choose of {sorted(first)}')
    results = {name: measure(first[name], work_dir) for name in args.variants}
    out.mkdir(parents=True, exist_ok=True)
    draw_ffn(results, str(out / 'ffn.png'))
    rows = {
        name: {
            moment: [dict(slope=x['slope'], share=x['share']) for x in layers]
            for moment, layers in moments.items()
        }
        for name, moments in results.items()
    }
    (out / 'ffn.json').write_text(json.dumps(rows, indent=1) + '\n')
    for name, moments in rows.items():
        for moment, layers in moments.items():
            shares = ' '.join(f'{layer["share"]:.3f}' for layer in layers)
            print(f'{name}, {moment}: share along the input {shares}')
    print(f'written to {out}')


if __name__ == '__main__':
    main()
