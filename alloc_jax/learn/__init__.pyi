from alloc_jax.learn.calibration import (
    MixedMultiplier as MixedMultiplier,
    Prediction as Prediction,
)
from alloc_jax.learn.export import export_policy as export_policy
from alloc_jax.learn.features.inputs import (
    Combined as Combined,
    Embedding as Embedding,
    Given as Given,
    sentence_embedding as sentence_embedding,
)
from alloc_jax.learn.features.text import TextFeatures as TextFeatures
from alloc_jax.learn.policy import (
    Policy as Policy,
    load_policy as load_policy,
)
from alloc_jax.learn.probe import (
    describe_probe as describe_probe,
    split_probe as split_probe,
)
from alloc_jax.learn.protocols import (
    Featurizer as Featurizer,
    PolicyLike as PolicyLike,
)
from alloc_jax.learn.training import (
    PolicyConfig as PolicyConfig,
    train as train,
)
