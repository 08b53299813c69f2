"""torchrun for dist_train.sh, which ends with the status of the training."""

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from halvit_mm.engine import PREEMPTED_STATUS, die_with_parent

if __name__ == '__main__':
    die_with_parent()  # the script, which may be killed
    try:
        main()
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        if status != PREEMPTED_STATUS:
            print(error, file=sys.stderr)
        sys.exit(status if status > 0 else 128 - status)
