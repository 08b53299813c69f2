"""Run a tool of a host with our configs: ``python -m halvit_mm.host TOOL``.

The hosts' scripts import ``mmdet.models`` before they read the config, which
fails where mmcv has no compiled operators; here they are there from the start
(see :mod:`halvit_mm.compat`). ``TOOL`` is the path of a script, such as
``mmdet/analysis_tools/browse_dataset``, or an end of it that is unique.
"""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, Optional, Sequence

_HOSTS = ('mmdet', 'mmpretrain')


def tools() -> Dict[str, Path]:
    """Host, folders and name of each tool of the installed hosts -> script."""
    found = {}
    for host in _HOSTS:
        spec = find_spec(host)
        for folder in spec.submodule_search_locations if spec else ():
            root = Path(folder) / '.mim' / 'tools'
            for path in sorted(root.rglob('*.py')):
                name = path.relative_to(root).with_suffix('')
                found[f'{host}/{name}'] = path
    return found


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the tool that the command line names, in this process.

    Raises:
        SystemExit: If there is none of that name, or several.
    """
    name, *args = (sys.argv[1:] if argv is None else argv) or ['']
    scripts = tools()
    ending = '/' + name.removesuffix('.py')
    found = [tool for tool in scripts if f'/{tool}'.endswith(ending)]
    if len(found) != 1:
        what = 'several tools are called' if found else 'there is no tool'
        known = ', '.join(found or scripts)
        sys.exit(
            f'python -m halvit_mm.host TOOL ARGS: {what} {name!r}; '
            f'there are {known}'
        )
    script = str(scripts[found[0]])
    sys.argv = [script, *args]
    sys.path[0] = str(Path(script).parent)  # as Python does for a script
    runpy.run_path(script, run_name='__main__')


if __name__ == '__main__':
    main()
