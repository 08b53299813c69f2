"""What differs between hosts, and nothing else."""

from .checkpoints import allow_mmengine_checkpoints
from .debug_messages import quieten_debug_messages
from .host import HostLine, host_lines, installed_version, missing_host_message
from .mmcv_ext import ENV_VAR as OPS_ENV_VAR
from .mmcv_ext import install_mmcv_ext, ops_backend
from .multimodal import skip_multimodal_models

__all__ = [
    'OPS_ENV_VAR',
    'HostLine',
    'host_lines',
    'install',
    'installed_version',
    'missing_host_message',
    'ops_backend',
]


def install() -> None:
    """Make the installed hosts usable; a second call changes nothing."""
    install_mmcv_ext()
    quieten_debug_messages()
    allow_mmengine_checkpoints()
    skip_multimodal_models()
