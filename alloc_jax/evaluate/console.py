"""What a script says when it cannot go on: one line that names what is wrong, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_errors(script: str) -> Iterator[None]:
    """Ends the script with one line where its input is wrong or a package is missing (status 1), or it is interrupted (130).

    Args:
      script: what the line starts with.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{script}: {error}") from error
    except KeyboardInterrupt:
        print(f"{script}: interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None
