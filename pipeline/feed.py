"""Feed: how the arrays that are extracted from columns become what the model takes.

Without hooks and images that is the arrays themselves, arranged as the model's signature says. An
encoded image is extracted as bytes and decoded in the graph; a `preprocess` hook takes what the
columns feed by name, and gives what the model takes. All of it runs inside tf.data, on a batch's
good rows, and is the same for the probe, for each method and for each way of streaming.

Owns what the columns feed (`inputs`) and the way from there to the model (`element`). The
conversion of values is `extract`'s, the choice of columns `binding`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.choosing import natural_spec
from pipeline.errors import ConfigError
from pipeline.input_options import InputOptions
from pipeline.job import FedInput
from pipeline.runtime import tensorflow
from pipeline.signature import InputSpec, Signature
from pipeline.user_code import load_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow as pa

    from pipeline.job import Job, JobIdentity


@dataclass(frozen=True, slots=True)
class Feed:
    """From extracted arrays to the model.

    Attributes:
        inputs: What the columns feed, in the order of a batch's arrays.
        signature: The model's, for which `inputs` are made.
        options: Input → how its columns are read, where the job says anything.
        preprocess: The hook of the user's, or None.
    """

    inputs: tuple[InputSpec, ...]
    signature: Signature
    options: Mapping[str, InputOptions] = field(default_factory=dict)
    preprocess: Callable[[dict[str, Any]], Any] | None = None

    def element(self, tensors: Sequence[Any]) -> Any:
        """What `predict(dataset)` is to be given for a batch.

        Args:
            tensors: One for each of `inputs`: (rows, …).
        """
        if self.preprocess is None:
            return self.signature.pack(tensors)
        named = {spec.name: t for spec, t in zip(self.inputs, tensors, strict=True)}
        return self.preprocess(named)

    def tensors(self, arrays: Sequence[Any]) -> list[Any]:
        """The arrays of a batch as tensors of the types that the columns feed."""
        tf = tensorflow()
        return [
            tf.convert_to_tensor(array, dtype=spec.dtype)
            for array, spec in zip(arrays, self.inputs, strict=True)
        ]

    @property
    def fed(self) -> tuple[FedInput, ...]:
        """What is recorded of `inputs`: with a hook they follow from the first shard's columns."""
        if self.preprocess is None:
            return ()
        return tuple(
            FedInput(name=spec.name, shape=tuple(d or 1 for d in spec.shape), dtype=spec.dtype)
            for spec in self.inputs
        )


def feed_for(
    signature: Signature, job: Job, made: JobIdentity | None, schemas: Iterable[pa.Schema]
) -> Feed:
    """The feed of a job.

    Args:
        signature: The model's.
        job: The job.
        made: What the output was begun with, which comes before what is asked for now.
        schemas: Of the shards at hand, for a hook's inputs.

    Raises:
        ConfigError: The job says of an input what does not fit it.
        ModelError: The hook cannot be imported.
    """
    options = _options(job, made)
    hook = load_hook(job.preprocess) if job.preprocess else None
    if hook is None:
        return Feed(signature.inputs, signature, options)
    if made is not None:
        specs = tuple(InputSpec(fed.name, fed.shape, fed.dtype) for fed in made.fed)
    else:
        specs = _hook_inputs(job, options, list(schemas))
    return Feed(specs, signature, options, hook)


def _options(job: Job, made: JobIdentity | None) -> dict[str, InputOptions]:
    if made is not None:
        return {name: InputOptions.model_validate(said) for name, said in made.inputs.items()}
    return dict(job.inputs)


def _hook_inputs(
    job: Job, options: Mapping[str, InputOptions], schemas: Sequence[pa.Schema]
) -> tuple[InputSpec, ...]:
    """What the columns that the job names feed into its hook, of their own types."""
    named = {**job.input_columns, **{name: (name,) for name in job.features}}
    if not named:
        raise ConfigError(
            "which columns feed the preprocess hook is not said",
            received=f"preprocess = {job.preprocess!r} without inputs or features",
            hint="name them in the [inputs] table, or with --features",
        )
    return tuple(
        natural_spec(name, columns, schemas, options.get(name), job.time_unit)
        for name, columns in named.items()
    )
