"""TensorBoard beside the host's log."""

from importlib.util import find_spec

from mmengine.config import Config

from ..checkpoint import read_meta


def add_tensorboard(cfg: Config) -> None:
    """Let a training write event files to ``<work_dir>/tensorboard``.

    Those of a run that is resumed lie in the same folder and are one run:
    its first step replaces what came after the checkpoint.

    Args:
        cfg: From :func:`.load_config`, is changed.

    Raises:
        ValueError: If TensorBoard is not installed.
    """
    if find_spec('tensorboard') is None:
        raise ValueError(
            '--log tensorboard: TensorBoard is not installed; '
            "pip install 'halvit-mm[log]', or pip install tensorboard"
        )
    first = None
    if cfg.get('resume'):
        first = read_meta(cfg.load_from).get('iter', 0) + 1
    backend = dict(
        type='halvit_mm.TensorboardVisBackend',
        save_dir=f'{cfg.work_dir}/tensorboard',
        purge_step=first,
    )
    visualizer = cfg.get('visualizer') or dict(
        type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    backends = visualizer.get('vis_backends') or []
    if isinstance(backends, dict):
        backends = [backends]
    cfg.visualizer = dict(visualizer, vis_backends=[*backends, backend])
