"""Results of the long proofs, kept in docs/soak."""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

FOLDER = Path(__file__).parents[2] / 'docs/soak'


def keep(name: str, runs: List[dict], goals: Dict[str, Any]) -> None:
    """Write the results of a proof and end its process.

    Args:
        name: Name of the file.
        runs: What each run gave; its true values are counted.
        goals: The counts that are asked for.

    Raises:
        SystemExit: Naming the counts that are others, if there are any.
    """
    summary = {key: sum(bool(run.get(key)) for run in runs) for key in goals}
    summary = dict(runs=len(runs), **summary)
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(dict(summary=summary, runs=runs), indent=1)
    (FOLDER / f'{name}.json').write_text(text + '\n')
    print(summary)
    missed = [
        f'{key}: {summary[key]}, not {goal}'
        for key, goal in goals.items()
        if summary[key] != goal
    ]
    sys.exit('; '.join(missed) or 0)
