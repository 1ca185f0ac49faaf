from alloc_jax.actions import (
    Action as Action,
)
from alloc_jax.actions import (
    abstain as abstain,
)
from alloc_jax.actions import (
    best_of as best_of,
)
from alloc_jax.actions import (
    parse_actions as parse_actions,
)
from alloc_jax.actions import (
    passes as passes,
)
from alloc_jax.actions import (
    single as single,
)
from alloc_jax.actions import (
    unanimous as unanimous,
)
from alloc_jax.actions import (
    vote as vote,
)
from alloc_jax.actions import (
    weighted_vote as weighted_vote,
)
from alloc_jax.evaluate.evaluation import (
    Report as Report,
)
from alloc_jax.evaluate.evaluation import (
    evaluate as evaluate,
)
from alloc_jax.learn.export import export_policy as export_policy
from alloc_jax.learn.features import TextFeatures as TextFeatures
from alloc_jax.learn.inputs import (
    Combined as Combined,
)
from alloc_jax.learn.inputs import (
    Embedding as Embedding,
)
from alloc_jax.learn.inputs import (
    Given as Given,
)
from alloc_jax.learn.policy import (
    Policy as Policy,
)
from alloc_jax.learn.policy import (
    load_policy as load_policy,
)
from alloc_jax.learn.probe import split_probe as split_probe
from alloc_jax.learn.training import (
    PolicyConfig as PolicyConfig,
)
from alloc_jax.learn.training import (
    train as train,
)
from alloc_jax.logs.read import read_log as read_log
from alloc_jax.logs.write import write_log as write_log
from alloc_jax.measure.blocks import TableBlocks as TableBlocks
from alloc_jax.measure.paired import plan_utility as plan_utility
from alloc_jax.measure.store import (
    load_table as load_table,
)
from alloc_jax.measure.store import (
    save_table as save_table,
)
from alloc_jax.measure.table import (
    measure as measure,
)
from alloc_jax.measure.table import (
    menu as menu,
)
from alloc_jax.measure.table import (
    reprice as reprice,
)
from alloc_jax.price_book import (
    PriceBook as PriceBook,
)
from alloc_jax.price_book import (
    TokenPrice as TokenPrice,
)
from alloc_jax.serve.allocator import (
    Allocator as Allocator,
)
from alloc_jax.serve.allocator import (
    Decision as Decision,
)
from alloc_jax.serve.allocator import (
    allocator as allocator,
)
from alloc_jax.solve.derivatives import (
    best_response as best_response,
)
from alloc_jax.solve.derivatives import (
    dual_value as dual_value,
)
from alloc_jax.solve.frontier import (
    Frontier as Frontier,
)
from alloc_jax.solve.frontier import (
    frontier as frontier,
)
from alloc_jax.solve.solver import (
    prepare as prepare,
)
from alloc_jax.solve.solver import (
    solve as solve,
)
from alloc_jax.solve.streaming.stream import solve_stream as solve_stream
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
from alloc_jax.types import (
    AllocationProblem as AllocationProblem,
)
from alloc_jax.types import (
    MixedPlan as MixedPlan,
)
from alloc_jax.types import (
    OutcomeTable as OutcomeTable,
)
from alloc_jax.types import (
    SampleLog as SampleLog,
)
from alloc_jax.types import (
    Solution as Solution,
)
from alloc_jax.types import (
    Source as Source,
)
from alloc_jax.types import (
    Status as Status,
)

__version__: str
