"""Train on two hosts, cut one off, and go on.

The hosts are network namespaces with a cable between them, for which
`unshare -rn` gives the right. Results are kept in docs/soak/two_hosts.json.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from halvit_mm.engine import die_with_parent

from ..commands import ROOT, run
from ..tools.conftest import CLASSIFIER, free_port
from ..tools.trainings import equal, start, wait_until_gone, weights
from .hangs import EPOCHS, LIMIT, MINUTES, draw, ranks
from .results import keep

TRAIN = ('bash', 'tools/dist_train.sh', CLASSIFIER)
WAYS = {
    'watchdog': [],
    'process group': [
        'watchdog_minutes=None',
        f'env_cfg.dist_cfg.timeout={60 * MINUTES:.0f}',
    ],
}
FIRST, SECOND = '10.9.0.1', '10.9.0.2'


def ip(command: str, *prefix: str) -> None:
    """Call `ip`."""
    subprocess.run((*prefix, 'ip', *command.split()), check=True)


def connect() -> tuple:
    """Make the second host; returns the command that enters it."""
    other = subprocess.Popen(
        ['unshare', '-n', 'sleep', 'infinity'], preexec_fn=die_with_parent
    )
    time.sleep(1)
    enter = ('nsenter', f'--net=/proc/{other.pid}/ns/net')
    ip('link add name cable1 type veth peer name cable2')
    ip(f'link set cable2 netns {other.pid}')
    for number, address, prefix in ((1, FIRST, ()), (2, SECOND, enter)):
        ip('link set lo up', *prefix)
        ip(f'address add {address}/24 dev cable{number}', *prefix)
        ip(f'link set cable{number} up', *prefix)
    return enter


def on_two(enter: tuple, folder: Path, options: list, steps: int) -> tuple:
    """Start a training, one process a host, and wait for some of its steps."""
    os.environ.update(NNODES='2', MASTER_ADDR=FIRST, PORT=str(free_port()))
    resume = ('--resume', 'auto-or-new', '--work-dir', folder)
    second = ('env', 'NODE_RANK=1', 'GLOO_SOCKET_IFNAME=cable2')
    second += (f'PYTHON={sys.executable}', *enter)
    second = subprocess.Popen(
        [*map(str, (*second, *TRAIN, 1, *resume, '--cfg-options', *options))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    first = ('env', 'GLOO_SOCKET_IFNAME=cable1', *TRAIN, 1, *resume[:2])
    return start(first, folder, options, steps), second


def ends_of(hosts: tuple, folder: Path) -> list:
    """Wait for both hosts; returns what each has printed."""
    outputs = [host.communicate(timeout=10 * LIMIT)[0] for host in hosts]
    wait_until_gone(folder)
    for name in ('NNODES', 'MASTER_ADDR', 'PORT'):
        del os.environ[name]
    return outputs


def last_words(text: str, folder: Path) -> str:
    """The sentence that tells why a host has ended."""
    found = re.findall('.*stands still.*|.*Error: .*[tT]imed out.*', text)
    return (found or [text[-500:]])[-1].replace(str(folder), 'RUN')


def one_cut(way: str, enter: tuple, folder: Path, options: list) -> dict:
    """Cut a host off, connect it again, and resume the training."""
    hosts = on_two(enter, folder, options, 7)
    ip('link set cable1 down')
    begin = time.monotonic()
    outputs = ends_of(hosts, folder)
    seconds = time.monotonic() - begin
    ip('link set cable1 up')
    stacks = ranks(folder)
    again = on_two(enter, folder, options, 1)
    ends_of(again, folder)
    statuses = [host.returncode for host in hosts]
    return dict(
        run=f'one is cut off, ended by the {way}',
        statuses=statuses,
        both_end=all(status > 0 for status in statuses),
        seconds=round(seconds, 1),
        in_time=seconds < LIMIT,
        stacks_of=stacks,
        messages=[last_words(text, folder) for text in outputs],
        resumed=[host.returncode for host in again] == [0, 0],
    )


def main():
    enter = connect()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        options = [*draw(root), 'train_dataloader.batch_size=2']
        last = f'epoch_{EPOCHS}.pth'
        one, two = root / 'one', root / 'two'
        rest = ('--work-dir', one, '--cfg-options', *options)
        run(*TRAIN, 2, *rest, PORT=str(free_port()))
        ends_of(on_two(enter, two, options, 1), two)
        whole = weights(one / last)
        same = equal(weights(two / last), whole)
        results = [dict(run='two hosts', equal_to_one_host=same)]
        print(results[0], flush=True)
        for way, more in WAYS.items():
            cut = root / way
            result = one_cut(way, enter, cut, [*options, *more])
            result['same_weights'] = equal(weights(cut / last), whole)
            results.append(result)
            print(result, flush=True)
    goals = dict.fromkeys(['both_end', 'in_time', 'resumed'], 2)
    keep(
        'two_hosts', results, dict(goals, same_weights=2, equal_to_one_host=1)
    )


if __name__ == '__main__':
    main()
