from alloc_jax.evaluate.baselines import (
    NearestNeighbours as NearestNeighbours,
    prompt_length as prompt_length,
)
from alloc_jax.evaluate.evaluation import evaluate as evaluate
from alloc_jax.evaluate.scoring import Report as Report
from alloc_jax.evaluate.traffic.off_policy import (
    NoOverlap as NoOverlap,
    OffPolicy as OffPolicy,
    evaluate_traffic as evaluate_traffic,
)
from alloc_jax.evaluate.traffic.recalibrating import (
    Corrections as Corrections,
    recalibrated as recalibrated,
)
from alloc_jax.evaluate.traffic.switching import (
    Switch as Switch,
    compare_candidate as compare_candidate,
)
from alloc_jax.measure.drift import (
    Monitor as Monitor,
    watch_traffic as watch_traffic,
)
