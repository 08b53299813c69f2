"""The proof of the operators on a GPU, in steps that do not need each other.

Nothing here needs more than PyTorch and :mod:`halvit_mm.ops`, but for what
:mod:`.models` runs in processes of its own.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# This tree is proven, installed or not. From `apis`, `timing` and `table` are
# taken without the package around them, which needs the hosts.
sys.path.insert(1, str(ROOT))
sys.path.append(str(ROOT / 'halvit_mm' / 'apis'))
