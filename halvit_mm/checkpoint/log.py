"""Messages of a load, in the log of the run where there is one."""

import logging


def say(message: str, level: int = logging.INFO) -> None:
    """Log a message by mmengine, or by Python where it is not installed."""
    try:
        from mmengine.logging import print_log
    except ImportError:
        logging.getLogger('halvit_mm').log(level, message)
    else:
        print_log(message, logger='current', level=level)
