from alloc_jax.logs.decisions import (
    Recorded as Recorded,
    read_traffic as read_traffic,
)
from alloc_jax.logs.grade import (
    Grade as Grade,
    Grader as Grader,
    grade as grade,
)
from alloc_jax.logs.read import (
    LogWarning as LogWarning,
    Reading as Reading,
    read_log as read_log,
    read_logs as read_logs,
)
from alloc_jax.logs.records import LogError as LogError
from alloc_jax.logs.traffic import Traffic as Traffic
from alloc_jax.logs.write import write_log as write_log
