from alloc_jax.collect.collector import (
    Account as Account,
)
from alloc_jax.collect.collector import (
    CollectConfig as CollectConfig,
)
from alloc_jax.collect.collector import (
    collect as collect,
)
from alloc_jax.collect.doubts import suspicions as suspicions
from alloc_jax.collect.questions import (
    Question as Question,
)
from alloc_jax.collect.questions import (
    read_questions as read_questions,
)
from alloc_jax.collect.recipes import (
    Recipe as Recipe,
)
from alloc_jax.collect.recipes import (
    load_recipes as load_recipes,
)
from alloc_jax.collect.recipes import (
    parse_recipes as parse_recipes,
)
