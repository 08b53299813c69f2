"""Files at an address, downloaded once to torch's own folder for them."""

import os
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch

_NOT_FETCHED = (
    EOFError,
    HTTPException,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    ValueError,  # no address
)


def local_copy(path: str) -> str:
    """Download a file, unless it is here.

    Args:
        path: A local file, or an address: ``http://``, ``https://``, or
            ``torchvision://``, ``open-mmlab://``, ``mmcls://`` with the name
            of a model.

    Returns:
        The local file.

    Raises:
        ValueError: If the scheme is another one, the model is not known, or
            the address cannot be fetched.
    """
    scheme, separator, name = str(path).partition('://')
    if not separator:
        return os.path.expanduser(path)
    try:
        address = path if scheme in ('http', 'https') else _find(scheme, name)
        return _download(address)
    except _NOT_FETCHED as e:
        raise ValueError(
            f'{path} cannot be fetched ({type(e).__name__}: {e}): '
            'download it by another way and give the name of the file'
        ) from e


def _find(scheme: str, name: str) -> str:
    """The address that the host lists for a model."""
    from mmengine.runner import checkpoint as host

    if scheme in ('torchvision', 'modelzoo'):
        return host.get_torchvision_models()[name]
    if scheme in ('open-mmlab', 'openmmlab'):
        name = host.get_deprecated_model_names().get(name, name)
        return host.get_external_models()[name]
    if scheme == 'mmcls':
        return host.get_mmcls_models()[name]
    raise LookupError(f'{scheme}:// is not read here')


def _download(address: str) -> str:
    """Download once in each folder, by the first process of a run."""
    from mmengine.dist import barrier, is_main_process

    folder = Path(torch.hub.get_dir(), 'checkpoints')
    path = folder / Path(urlsplit(address).path).name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if is_main_process() and not path.is_file():
            torch.hub.download_url_to_file(address, str(path))
    finally:
        barrier()  # the others do not wait for what has failed
    if not path.is_file():  # the first process is on another machine
        torch.hub.download_url_to_file(address, str(path))
    return str(path)
