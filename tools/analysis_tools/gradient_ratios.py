r"""How large the gradients of query and key are beside those of value, output.

    gradient_ratios.py configs/studies/cifar10_tying.yaml --stage 4_epochs \
        --variants untied paper 'HaLViT±, version 1' 'HaLViT±, version 2'

HaLViT ties the query with the output and the key with the value. Where the
gradients of one use are far smaller, an optimiser that normalises each matrix
follows the other use. Measured on a mixed batch of held-out images, of fresh
weights and of every checkpoint that each variant's first run has kept.
"""

import json
from pathlib import Path
from typing import Dict, List

import matplotlib.pyplot as plt
import torch
from mmengine.runner import Runner
from study.main import folders_of, study_parser
from study.stages import stages
from torch import nn

from halvit_mm.apis.cli import errors_in_short
from halvit_mm.apis.model_info import build_model
from halvit_mm.checkpoint import read_state_dict
from halvit_mm.models.layers import LikeTiedSelfAttention, SelfAttention

_SETTINGS = ('scale', 'window_size', 'upcast_attention', 'attn_drop_rate')


def untied(attn: nn.Module) -> SelfAttention:
    """Copy an attention, with a matrix of its own for every use.

    Args:
        attn: Untied, or tied as in the paper, or like with like, with biases.

    Returns:
        An attention that computes the same.
    """
    if isinstance(attn, SelfAttention):
        maps = [(attn.qkv.weight, attn.qkv.bias)]
        out = attn.proj.weight, attn.proj.bias
    elif isinstance(attn, LikeTiedSelfAttention):
        a, b = attn.qk, attn.vo
        maps = [
            (a.weight, a.bias),
            (a.weight.t(), a.transposed_bias),
            (b.weight, b.bias),
        ]
        out = b.weight, b.again.bias
    else:
        q, kv = attn.q, attn.kv
        maps = [
            (q.weight, q.bias),
            (kv.weight, kv.bias),
            (kv.weight.t(), kv.transposed_bias),
        ]
        out = q.weight.t(), q.transposed_bias
    twin = SelfAttention(out[0].shape[0], attn.num_heads)
    weights, biases = (torch.cat(tensors) for tensors in zip(*maps))
    state = {'qkv.weight': weights, 'qkv.bias': biases}
    state.update({'proj.weight': out[0], 'proj.bias': out[1]})
    twin.load_state_dict(state)
    for name in _SETTINGS:
        setattr(twin, name, getattr(attn, name))
    return twin.train(attn.training)


def gradient_ratios(model: nn.Module, data: dict) -> List[float]:
    """Measure ``|grad of q, k| / |grad of v, output|`` of every layer.

    Args:
        model: A classifier on a plain ViT, whose attentions are replaced by
            untied copies; layers do not share them.
        data: A batch with labels, as its data loader gives it.

    Returns:
        One ratio of Frobenius norms for each layer.
    """
    model.eval()
    for layer in model.backbone.layers:
        layer.attn = untied(layer.attn)
    model.zero_grad(set_to_none=True)
    data = model.data_preprocessor(data)
    sum(model(**data, mode='loss').values()).backward()
    ratios = []
    for layer in model.backbone.layers:
        qkv, out = layer.attn.qkv.weight.grad, layer.attn.proj.weight.grad
        qk, v = qkv.split([2 * len(out), len(out)])
        ratios.append((qk.norm() / torch.cat((v, out)).norm()).item())
    return ratios


def mixed_batch(loader: dict) -> dict:
    """Read a batch of shuffled images, the same one at every call.

    Args:
        loader: Config of a data loader, which may sort by class.

    Returns:
        Its first batch.

    Raises:
        ValueError: If all of its images have one label: gradients would be
            those of learning to say that one.
    """
    cfg = dict(loader, sampler=dict(type='DefaultSampler', shuffle=True))
    data = next(iter(Runner.build_dataloader(cfg, seed=0)))
    labels = torch.cat([x.gt_label for x in data['data_samples']]).tolist()
    if len(set(labels)) == 1:
        raise ValueError(
            f'all {len(labels)} images of the batch have the label '
            f'{labels[0]}: a larger val_dataloader.batch_size is needed, and '
            'images of several classes'
        )
    return data


def measure(run, work_dir: Path) -> Dict[str, List[float]]:
    """Measure a run at the start and at every checkpoint that is kept.

    Args:
        run: A run of a study of trainings.
        work_dir: The study's work directory.

    Returns:
        Number of the epoch, from ``'0'``, -> a ratio for each layer.

    Raises:
        FileNotFoundError: If it has left no checkpoint.
        ValueError: As for :func:`mixed_batch`.
    """
    folder = work_dir / run.folder
    paths = {_epoch(path): path for path in folder.glob('epoch_*.pth')}
    if not paths:
        raise FileNotFoundError(
            f'there is no epoch_*.pth of {run.title!r} in {folder}: train it '
            'by compare.py, and name the same --work-dir here'
        )
    data = mixed_batch(run.cfg.val_dataloader)
    torch.manual_seed(run.seed)
    model = build_model(run.cfg)
    model.init_weights()
    ratios = {'0': gradient_ratios(model, data)}
    for epoch in sorted(paths):
        model = build_model(run.cfg)
        model.load_state_dict(read_state_dict(str(paths[epoch])))
        ratios[str(epoch)] = gradient_ratios(model, data)
    return ratios


def _epoch(path: Path) -> int:
    return int(path.stem.rpartition('_')[2])


def draw(results: Dict[str, Dict[str, List[float]]], path: Path) -> None:
    """Draw each variant's ratios over the epochs, a line for each layer.

    Args:
        results: For each variant what :func:`measure` returns.
        path: PNG file.
    """
    figure, axes = plt.subplots(figsize=(8, 4.5), layout='constrained')
    for i, (variant, ratios) in enumerate(results.items()):
        epochs = [int(epoch) for epoch in ratios]
        for j, line in enumerate(zip(*ratios.values())):
            label = '' if j else variant
            axes.plot(epochs, line, marker='.', color=f'C{i}', label=label)
    axes.set(xlabel='epoch', ylabel='|grad q, k| / |grad v, output|')
    axes.set_yscale('log')
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def parse_args():
    parser = study_parser(__doc__)
    parser.add_argument('--stage', help='of a study in stages')
    parser.add_argument('--variants', nargs='+', required=True)
    return parser.parse_args()


@errors_in_short()
def main():
    args = parse_args()
    top = args.out and Path(args.out)
    study = next(stages(args.study, only=args.stage, out=top))
    out, work_dir = folders_of(study, args.out, args.work_dir)
    study.check_variants(args.variants)
    first = {run.variant: run for run in reversed(study.runs)}
    results = {name: measure(first[name], work_dir) for name in args.variants}
    out.mkdir(parents=True, exist_ok=True)
    draw(results, out / 'gradients.png')
    (out / 'gradients.json').write_text(json.dumps(results, indent=1) + '\n')
    for variant, ratios in results.items():
        for epoch, layers in ratios.items():
            inverse = ' '.join(f'1:{1 / ratio:.0f}' for ratio in layers)
            print(f'{variant}, epoch {epoch}: {inverse}')
    print(f'written to {out}')


if __name__ == '__main__':
    main()
