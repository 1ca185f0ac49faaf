from alloc_jax.measure.blocks import TableBlocks as TableBlocks
from alloc_jax.measure.costs import (
    RESOURCES as RESOURCES,
    with_known_costs as with_known_costs,
)
from alloc_jax.measure.description import (
    describe as describe,
    fitting_menu as fitting_menu,
    format_description as format_description,
    format_table as format_table,
)
from alloc_jax.measure.paired import (
    PlanUtility as PlanUtility,
    plan_utility as plan_utility,
)
from alloc_jax.measure.store import (
    Provenance as Provenance,
    load_table as load_table,
    provenance as provenance,
    save_table as save_table,
)
from alloc_jax.measure.table import (
    measure as measure,
    menu as menu,
    reprice as reprice,
)
