"""A process that can be killed: reads a repository's name a line, forks, and the fork pulls it.

The parent of the forks has no threads, so that forking is safe; a fork costs some milliseconds instead of the start of
an interpreter. Its answer is the fork's process id; then, when the fork has ended, its exit code.
"""

from __future__ import annotations

import os
import sys

from loqal.hub.download import Policy
from loqal.hub.names import Wanted
from loqal.hub.pull import pull, select

POLICY = Policy(part_bytes=1 << 15, connections=3, first_wait_s=0.001, last_wait_s=0.01)


def file_bytes(size: str | None, quant: str | None, num_bytes: int) -> int:
    """The memory a file takes, for tests of transfers: as much as the disk."""
    return num_bytes


def pull_repo(repo: str) -> None:
    """Pull the only file of a repository."""
    pull(select(Wanted(repo, repo=repo), 1 << 40, lambda: 10.0, file_bytes), policy=POLICY)


def main() -> None:
    """Serve until stdin ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                pull_repo(line.strip())
            except BaseException:
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
