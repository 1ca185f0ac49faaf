"""A command with limits, in the process that this becomes: `python -IS limited.py SECONDS BYTES OUTPUT COMMAND ...`.

It keeps a test from taking the machine's time and memory by mistake. It is no sandbox: the command may read and write what this user
may, and reach the network.
"""

import os
import resource
import sys

if __name__ == "__main__":
    seconds, memory, output = map(int, sys.argv[1:4])
    for name, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (limit, limit))
    try:
        os.execvp(sys.argv[4], sys.argv[4:])
    except OSError:
        sys.exit(127)  # as a shell says
