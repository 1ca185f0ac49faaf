from alloc_jax.collect.collector import (
    CollectConfig as CollectConfig,
    CollectTotals as CollectTotals,
    collect as collect,
)
from alloc_jax.collect.questions import (
    Question as Question,
    read_questions as read_questions,
)
from alloc_jax.collect.recipes import (
    Recipe as Recipe,
    load_recipes as load_recipes,
    parse_recipes as parse_recipes,
)
from alloc_jax.collect.server_warnings import suspicions as suspicions
