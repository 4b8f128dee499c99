"""Feed: how the arrays that are extracted from columns become what the model takes.

Without hooks and images that is the arrays themselves, arranged as the model's signature says. An
encoded image is extracted as bytes and decoded in the graph; a `preprocess` hook takes what the
columns feed by name, images decoded, and gives what the model takes. All of it runs inside tf.data
on a batch's good rows, and is the same for the probe, for each method and each way of streaming.

Owns what the columns feed (`inputs`) and the way from there to the model (`element`). The
conversion of values is `extract`'s, the choice of columns `binding`'s, and what a job says of an
input is held against the model by `demands`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.choosing import natural_spec
from pipeline.columns import expand
from pipeline.demands import refined, refuse_unknown
from pipeline.errors import ConfigError, ContractError
from pipeline.images import Decoder, decoder_for, hook_spec, sample, sized
from pipeline.input_options import InputOptions
from pipeline.job import FedInput
from pipeline.preprocess import Preprocess
from pipeline.runtime import tensorflow
from pipeline.signature import InputSpec, Signature
from pipeline.user_code import load_hook

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from pipeline.job import Job, JobIdentity
    from pipeline.outputs import Array


@dataclass(frozen=True, eq=False)  # one is itself alone: what is compiled for it is kept by it
class Feed:
    """From extracted arrays to the model.

    Attributes:
        inputs: What the columns feed, in the order of a batch's arrays.
        signature: The model's, with all that the job says of its inputs.
        options: Input → how its columns are read, where the job says anything.
        decoders: Input → how its encoded images are decoded, where it holds any.
        preprocess: The hook of the user's, or None.
    """

    inputs: tuple[InputSpec, ...]
    signature: Signature
    options: Mapping[str, InputOptions] = field(default_factory=dict)
    decoders: Mapping[str, Decoder] = field(default_factory=dict)
    preprocess: Preprocess | None = None

    @property
    def bare(self) -> bool:
        """Whether arrays go to the model as they are: nothing is computed on the way."""
        return not self.decoders and self.preprocess is None

    def element(self, tensors: Sequence[Any]) -> Any:
        """What `predict(dataset)` is to be given for a batch.

        Args:
            tensors: One for each of `inputs`: (rows, …).

        Raises:
            InvalidArgumentError: TensorFlow's; an image cannot be decoded, or the hook returns
                another number of rows. A hook may raise other errors of TensorFlow's.
        """
        if self.bare:
            return self.signature.pack(tensors)
        return self._compiled(*tensors)

    def trace(self) -> None:
        """Makes the graph of `element`, so that what a hook does wrong is known before a row is
        read.

        Raises:
            ModelError: The hook raises, or returns something else than the model takes.
        """
        if self.preprocess is not None:
            self._compiled.get_concrete_function()

    @cached_property
    def _compiled(self) -> Any:
        # One function for all shards: TensorFlow keeps each that it has made.
        tf = tensorflow()
        wanted = [tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in self.inputs]
        return tf.function(self._element, input_signature=wanted, autograph=False)

    def _element(self, *tensors: Any) -> Any:
        with tensorflow().device("CPU"):  # whoever calls: the same pixels to the last bit
            named = {
                spec.name: self.decoders[spec.name](t) if spec.name in self.decoders else t
                for spec, t in zip(self.inputs, tensors, strict=True)
            }
            if self.preprocess is None:
                return self.signature.pack(list(named.values()))
            return self.signature.pack(self.preprocess(named, self.signature))

    def tensors(self, arrays: Sequence[Any]) -> list[Any]:
        """The arrays of a batch as tensors of the types that the columns feed."""
        tf = tensorflow()
        return [
            tf.convert_to_tensor(array, dtype=spec.dtype)
            for array, spec in zip(arrays, self.inputs, strict=True)
        ]

    def sample(self, rows: int) -> list[Array]:
        """Arrays that stand for rows where there are none: zeros, empty strings, a black image."""
        import numpy as np

        tf = tensorflow()

        def of(spec: InputSpec) -> Array:
            shape = (rows, *(d or 1 for d in spec.shape))
            if spec.dtype == "string":
                return np.full(shape, sample() if spec.name in self.decoders else b"", object)
            return np.zeros(shape, tf.as_dtype(spec.dtype).as_numpy_dtype)

        return [of(spec) for spec in self.inputs]

    def undecodable(self, arrays: Sequence[Array]) -> str | None:
        """The first input with an image that cannot be decoded; None if all of them can."""
        tf = tensorflow()
        for spec, array in zip(self.inputs, arrays, strict=True):
            if spec.name not in self.decoders:
                continue
            try:
                self.decoders[spec.name](tf.convert_to_tensor(array, dtype=spec.dtype))
            except tf.errors.OpError:
                return spec.name
        return None

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
        ModelError: The hook cannot be imported, raises, or does not give what the model takes.
    """
    options = options_of(job, made)
    if job.preprocess is None:
        refuse_unknown(signature, [*job.inputs, *options])
        return _plain_feed(signature, options)
    if made is not None:
        specs = tuple(InputSpec(fed.name, fed.shape, fed.dtype) for fed in made.fed)
    else:
        specs = _hook_inputs(job, options, list(schemas))
    decoders = {
        name: decoder_for(hook_spec(name, said.image, said.dtype), said.image)
        for name, said in options.items()
        if said.image is not None
    }
    hook = Preprocess(job.preprocess, load_hook(job.preprocess))
    feed = Feed(specs, signature, options, decoders, hook)
    feed.trace()
    return feed


def _plain_feed(signature: Signature, options: Mapping[str, InputOptions]) -> Feed:
    """The feed of a job without a hook: its columns feed the model's own inputs."""
    taken: list[InputSpec] = []
    fed: list[InputSpec] = []
    decoders: dict[str, Decoder] = {}
    for declared in signature.inputs:
        said = options.get(declared.name)
        spec = declared if said is None else refined(declared, said)
        if said is None or said.image is None:
            taken.append(spec)
            fed.append(spec)
            continue
        decoder = decoders[spec.name] = decoder_for(spec, said.image)
        taken.append(sized(spec, decoder))
        fed.append(InputSpec(spec.name, (), "string"))
    return Feed(tuple(fed), replace(signature, inputs=tuple(taken)), options, decoders)


def options_of(job: Job, made: JobIdentity | None) -> dict[str, InputOptions]:
    """What is said of the inputs: what the output was begun with, or what the job says."""
    if made is not None:
        return {name: InputOptions.model_validate(said) for name, said in made.inputs.items()}
    return dict(job.inputs)


def _hook_inputs(
    job: Job, options: Mapping[str, InputOptions], schemas: Sequence[pa.Schema]
) -> tuple[InputSpec, ...]:
    """What the columns that the job names feed into its hook, of their own types."""
    named = _hook_columns(job, schemas)
    if not named:
        raise ConfigError(
            "which columns feed the preprocess hook is not said",
            received=f"preprocess = {job.preprocess!r} without inputs or features",
            hint="name them in the [inputs] table, or with --features",
        )
    return tuple(
        InputSpec(name, (), "string")
        if name in options and options[name].image is not None
        else natural_spec(name, columns, schemas, options.get(name), job.time_unit)
        for name, columns in named.items()
    )


def _hook_columns(job: Job, schemas: Sequence[pa.Schema]) -> dict[str, tuple[str, ...]]:
    """Name in the hook's dict → columns: what `inputs` says, or each of `features` by itself.

    Raises:
        ContractError: No schema has the columns; the error is the first one's.
    """
    failure: ContractError | None = None
    for schema in schemas if job.features else ():
        try:
            found = expand(job.features, schema, "the preprocess hook")
        except ContractError as error:
            failure = failure or error
            continue
        return {name: (name,) for name in found}
    if failure is not None:
        raise failure
    return job.input_columns
