from alloc_jax.learn.calibration import (
    Prediction as Prediction,
)
from alloc_jax.learn.calibration import (
    Price as Price,
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
from alloc_jax.learn.inputs import (
    sentence_embedding as sentence_embedding,
)
from alloc_jax.learn.policy import (
    Policy as Policy,
)
from alloc_jax.learn.policy import (
    load_policy as load_policy,
)
from alloc_jax.learn.probe import (
    describe_probe as describe_probe,
)
from alloc_jax.learn.probe import (
    split_probe as split_probe,
)
from alloc_jax.learn.training import (
    PolicyConfig as PolicyConfig,
)
from alloc_jax.learn.training import (
    train as train,
)
