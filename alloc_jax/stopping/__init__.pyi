from alloc_jax.stopping.rules import (
    Prior as Prior,
)
from alloc_jax.stopping.rules import (
    State as State,
)
from alloc_jax.stopping.rules import (
    StoppingFrontier as StoppingFrontier,
)
from alloc_jax.stopping.rules import (
    StoppingRule as StoppingRule,
)
from alloc_jax.stopping.rules import (
    load_stopping as load_stopping,
)
from alloc_jax.stopping.rules import (
    policy_prior as policy_prior,
)
from alloc_jax.stopping.rules import (
    prior_features as prior_features,
)
from alloc_jax.stopping.rules import (
    vote_state as vote_state,
)
from alloc_jax.stopping.sequential import solve_sequential as solve_sequential
