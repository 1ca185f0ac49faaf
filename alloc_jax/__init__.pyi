from alloc_jax.actions import (
    Action as Action,
    abstain as abstain,
    best_of as best_of,
    parse_actions as parse_actions,
    passes as passes,
    single as single,
    unanimous as unanimous,
    vote as vote,
    weighted_vote as weighted_vote,
)
from alloc_jax.evaluate.evaluation import evaluate as evaluate
from alloc_jax.evaluate.scoring import Report as Report
from alloc_jax.learn.export import export_policy as export_policy
from alloc_jax.learn.features.inputs import (
    Combined as Combined,
    Embedding as Embedding,
    Given as Given,
)
from alloc_jax.learn.features.text import TextFeatures as TextFeatures
from alloc_jax.learn.policy import (
    Policy as Policy,
    load_policy as load_policy,
)
from alloc_jax.learn.probe import split_probe as split_probe
from alloc_jax.learn.training import (
    PolicyConfig as PolicyConfig,
    train as train,
)
from alloc_jax.logs.read import read_log as read_log
from alloc_jax.logs.write import write_log as write_log
from alloc_jax.measure.blocks import TableBlocks as TableBlocks
from alloc_jax.measure.paired import plan_utility as plan_utility
from alloc_jax.measure.store import (
    load_table as load_table,
    save_table as save_table,
)
from alloc_jax.measure.table import (
    measure as measure,
    menu as menu,
    reprice as reprice,
)
from alloc_jax.price_book import (
    PriceBook as PriceBook,
    TokenPrice as TokenPrice,
)
from alloc_jax.serve.allocator import (
    Allocator as Allocator,
    Decision as Decision,
    allocator as allocator,
    worst_cost as worst_cost,
)
from alloc_jax.solve.derivatives import (
    best_response as best_response,
    dual_value as dual_value,
)
from alloc_jax.solve.frontier import (
    Frontier as Frontier,
    frontier as frontier,
)
from alloc_jax.solve.smooth import (
    smooth_multiplier as smooth_multiplier,
    smooth_plan as smooth_plan,
)
from alloc_jax.solve.solver import (
    prepare as prepare,
    solve as solve,
)
from alloc_jax.solve.streaming.stream import solve_stream as solve_stream
from alloc_jax.stopping.pandora import (
    Verdicts as Verdicts,
    fit_verdicts as fit_verdicts,
    load_verdicts as load_verdicts,
    reservation_value as reservation_value,
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
from alloc_jax.types import (
    AllocationProblem as AllocationProblem,
    MixedPlan as MixedPlan,
    OutcomeTable as OutcomeTable,
    SampleLog as SampleLog,
    Solution as Solution,
    Source as Source,
    Status as Status,
)

__version__: str
