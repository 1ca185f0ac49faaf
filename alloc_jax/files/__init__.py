"""Files as rows, one in memory at a time, whatever the rows mean: text, JSON lines, JSON documents and CSV (`text.py`), parquet."""

from typing import Any

Row = tuple[str, Any]  # where it stands, and what stands there: a ValueError where that cannot be read
