"""Messages that the hosts mean for debugging and print all the same.

mmdet and mmpretrain of the maintained line say at import, at the level DEBUG,
that data sets of a product of theirs are not installed. mmengine's
``print_log`` without a logger prints a message whatever its level.
"""

import functools
import logging


def quieten_debug_messages() -> None:
    """Send debug messages without a logger to Python's logging, once.

    ``logging.getLogger('halvit_mm')`` shows them at the level DEBUG.
    """
    import mmengine.logging as mmengine_logging

    print_log = mmengine_logging.print_log
    if hasattr(print_log, '__wrapped__'):
        return

    @functools.wraps(print_log)
    def print_unless_debug(msg, logger=None, level=logging.INFO) -> None:
        if logger is None and level <= logging.DEBUG:
            logging.getLogger('halvit_mm').debug(msg)
        else:
            print_log(msg, logger, level)

    mmengine_logging.print_log = print_unless_debug
