r"""What the FFNs of a study's variants do to their input.

    ffn_spectrum.py configs/studies/cifar10.yaml \
        --variants untied tied 'tied, fixed signs'

The share of the output along the input and the eigenvalues of the Jacobian,
of fresh weights and of each variant's first trained run. With
``gelu(u) = u / 2 + e(u)``, e even, the linear part of HaLViT's FFN is
``W^T W x / 2``: positive semi-definite, and for a fresh W close to a multiple
of x itself. Here it is measured whether that shows.
"""

import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from mmengine.runner import Runner, find_latest_checkpoint
from study.main import study_parser
from study.plan import Study
from torch import Tensor, nn

from halvit_mm.apis.cli import errors_in_short
from halvit_mm.apis.model_info import build_model
from halvit_mm.checkpoint import read_state_dict


class FFNStatistics(NamedTuple):
    """One layer's FFN on real tokens.

    Attributes:
        slope: Mean over tokens of ``<y, x> / <x, x>``, x the FFN's input and
            y its output: the multiple of the input that is added.
        share: Mean over tokens of ``<y, x>^2 / (|x|^2 |y|^2)``, 0 to 1: the
            share of the output's energy along the input. A random direction
            has 1 / D.
        eigenvalues: Real parts of the eigenvalues of ``dy / dx``, sorted, of
            all tokens that were asked for.
    """

    slope: float
    share: float
    eigenvalues: List[float]


def ffn_statistics(
    backbone: nn.Module,
    images: Tensor,
    num_tokens: int = 512,
    num_jacobians: int = 8,
) -> List[FFNStatistics]:
    """Measure the FFN of every layer.

    Layers may share FFNs: each call of an FFN belongs to the next layer.

    Args:
        backbone: A plain ViT.
        images: (B, 3, H, W).
        num_tokens: Number of tokens, spread evenly over all of them.
        num_jacobians: How many of them give eigenvalues.

    Returns:
        One entry for each layer.

    Raises:
        ValueError: If the layers do not call an FFN once each.
    """
    calls: List[tuple] = []
    handles = [  # each module has one name, however many layers share it
        module.register_forward_pre_hook(lambda *call: calls.append(call))
        for name, module in backbone.named_modules()
        if name.rpartition('.')[2] == 'ffn'
    ]
    backbone.eval()
    with torch.no_grad():
        backbone(images)
    for handle in handles:
        handle.remove()
    if len(calls) != len(backbone.layers):
        raise ValueError(
            f'{len(backbone.layers)} layers called an FFN {len(calls)} times; '
            'it cannot be told which call belongs to which layer'
        )
    return [_statistics(*call, num_tokens, num_jacobians) for call in calls]


def _statistics(ffn, args, num_tokens, num_jacobians) -> FFNStatistics:
    """Measure an FFN that was called with ``args``, (B, T, D) first."""
    x, *others = args
    rows = x.flatten(0, -2)
    x = rows[torch.linspace(0, len(rows) - 1, num_tokens).long()]

    def apply(tokens: Tensor) -> Tensor:
        return ffn(tokens[None], *others)[0]

    with torch.no_grad():
        y = apply(x)
    along, energy = (x * y).sum(-1), (x * x).sum(-1)
    step = max(1, num_tokens // num_jacobians)
    eigenvalues = [
        torch.linalg.eigvals(_jacobian(apply, token)).real
        for token in x[::step][:num_jacobians]
    ]
    return FFNStatistics(
        (along / energy).mean().item(),
        (along**2 / (energy * (y * y).sum(-1))).mean().item(),
        torch.cat(eigenvalues).sort().values.tolist(),
    )


def _jacobian(apply, token: Tensor) -> Tensor:
    """Differentiate at a token (D,); row i of (D, D) is ``d y_i / d x``."""
    copies = token.repeat(len(token), 1).requires_grad_()
    outputs = apply(copies).diagonal()  # y_i of copy i
    return torch.autograd.grad(outputs.sum(), copies)[0]


def measure(run, work_dir: Path) -> Dict[str, List[FFNStatistics]]:
    """Measure all layers of a run at the start and after training.

    Args:
        run: A run of a study of trainings.
        work_dir: The study's work directory.

    Returns:
        ``'start'`` and ``'trained'`` -> an entry for each layer.

    Raises:
        FileNotFoundError: If the run was not trained.
    """
    path = find_latest_checkpoint(str(work_dir / run.folder))
    if path is None:
        raise FileNotFoundError(
            f'{run.variant}: no checkpoint in {work_dir / run.folder}'
        )
    torch.manual_seed(run.seed)
    model = build_model(run.cfg)
    model.init_weights()
    loader = Runner.build_dataloader(run.cfg.val_dataloader)
    images = model.data_preprocessor(next(iter(loader)))['inputs']
    moments = {'start': ffn_statistics(model.backbone, images)}
    model.load_state_dict(read_state_dict(path))
    moments['trained'] = ffn_statistics(model.backbone, images)
    return moments


def draw(
    results: Dict[str, Dict[str, Sequence[FFNStatistics]]], path: Path
) -> None:
    """Draw the share along the input and the Jacobians' eigenvalues.

    Args:
        results: For each variant what :func:`measure` returns.
        path: PNG file.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout='constrained')
    for i, (variant, moments) in enumerate(results.items()):
        style = dict(color=f'C{i}', label=variant)
        for (top, bottom), layers in zip(axes.T, moments.values()):
            numbers = range(1, len(layers) + 1)
            shares = [layer.share for layer in layers]
            top.plot(numbers, shares, marker='o', **style)
            top.set_xticks(numbers)
            values = np.concatenate([layer.eigenvalues for layer in layers])
            values = values.clip(*np.percentile(values, [0.2, 99.8]))
            bottom.hist(values, bins=80, histtype='step', **style)
    for (top, bottom), title in zip(
        axes.T, ('at the start', 'after training')
    ):
        top.set(title=title, xlabel='layer', ylim=(-0.02, 1))
        bottom.set(xlabel='eigenvalues of dy/dx, real part', yscale='log')
        bottom.axvline(0, color='grey', linewidth=0.8)
    axes[0, 0].set_ylabel('share of the output along the input')
    axes[1, 0].set_ylabel('count, all layers')
    axes[0, 1].legend()
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def parse_args():
    parser = study_parser(__doc__)
    parser.add_argument('--variants', nargs='+', required=True)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    study = Study.load(args.study)
    out = Path(args.out or study.out)
    work_dir = Path(args.work_dir or study.work_dir)
    study.check_variants(args.variants)
    first = {run.variant: run for run in reversed(study.runs)}
    results = {name: measure(first[name], work_dir) for name in args.variants}
    out.mkdir(parents=True, exist_ok=True)
    draw(results, out / 'ffn.png')
    rows = {
        name: {
            moment: [dict(slope=x.slope, share=x.share) for x in layers]
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
