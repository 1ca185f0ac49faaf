from alloc_jax.measure.blocks import TableBlocks as TableBlocks
from alloc_jax.measure.costs import (
    RESOURCES as RESOURCES,
)
from alloc_jax.measure.costs import (
    priced as priced,
)
from alloc_jax.measure.describe import (
    describe as describe,
)
from alloc_jax.measure.describe import (
    fitting_menu as fitting_menu,
)
from alloc_jax.measure.describe import (
    format_description as format_description,
)
from alloc_jax.measure.describe import (
    format_table as format_table,
)
from alloc_jax.measure.paired import (
    PlanUtility as PlanUtility,
)
from alloc_jax.measure.paired import (
    plan_utility as plan_utility,
)
from alloc_jax.measure.store import (
    Provenance as Provenance,
)
from alloc_jax.measure.store import (
    load_table as load_table,
)
from alloc_jax.measure.store import (
    provenance as provenance,
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
