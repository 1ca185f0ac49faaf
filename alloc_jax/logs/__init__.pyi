from alloc_jax.logs.grade import (
    Grade as Grade,
)
from alloc_jax.logs.grade import (
    Grader as Grader,
)
from alloc_jax.logs.grade import (
    grade as grade,
)
from alloc_jax.logs.read import (
    LogWarning as LogWarning,
)
from alloc_jax.logs.read import (
    Reading as Reading,
)
from alloc_jax.logs.read import (
    read_log as read_log,
)
from alloc_jax.logs.read import (
    read_logs as read_logs,
)
from alloc_jax.logs.records import LogError as LogError
from alloc_jax.logs.write import write_log as write_log
