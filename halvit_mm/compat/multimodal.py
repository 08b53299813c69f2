"""mmpretrain beside transformers 5."""

from .host import installed_version


def skip_multimodal_models() -> None:
    """Leave mmpretrain's multimodal models out where they cannot be imported.

    They are written for transformers 4. With a later one their import fails,
    and with it that of all models of mmpretrain.
    """
    version = installed_version('transformers')
    if version is None or int(version.split('.')[0]) < 5:
        return
    try:
        from mmpretrain.utils import dependency
    except ImportError:  # without mmpretrain nothing needs to be left out
        return
    dependency.WITH_MULTIMODAL = False
