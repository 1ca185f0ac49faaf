from alloc_jax.stopping.pandora import (
    Verdicts as Verdicts,
    fit_verdicts as fit_verdicts,
    load_verdicts as load_verdicts,
    reservation_value as reservation_value,
    search_boxes as search_boxes,
)
from alloc_jax.stopping.rules import (
    Prior as Prior,
    State as State,
    StoppingFrontier as StoppingFrontier,
    StoppingRule as StoppingRule,
    load_stopping as load_stopping,
    policy_prior as policy_prior,
    prior_features as prior_features,
    vote_state as vote_state,
)
from alloc_jax.stopping.sequential import solve_sequential as solve_sequential
from alloc_jax.stopping.sources.rules import (
    EscalationFrontier as EscalationFrontier,
    EscalationRule as EscalationRule,
    load_escalation as load_escalation,
)
from alloc_jax.stopping.sources.solver import (
    solve_escalation as solve_escalation,
)
from alloc_jax.stopping.sources.solver_input import (
    Promise as Promise,
    policy_promise as policy_promise,
)
