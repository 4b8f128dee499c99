"""How `init` binds inputs: as a run would, and where more must be said, by saying the least that
works.

The columns of an input are those that the job names, else the one of its name, else one whose name
differs in case or punctuation alone; a single input may also take all that fits, if it is just as
wide. Whether columns can feed an input is not decided here: the binding is asked, first with
nothing said, then with one thing after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as pt

from pipeline.binding import Reading, check
from pipeline.columns import expand, find, nesting, value_type
from pipeline.conversions import MANTISSA, conversion_of, is_bytes, is_time, unit_of
from pipeline.errors import ConfigError, ContractError, ShardscoreError, shortened
from pipeline.feed import feed_for
from pipeline.input_options import InputOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.binding import ColumnUse
    from pipeline.job import Job
    from pipeline.signature import InputSpec, Signature

ANY_LOSS = ("*",)

_LENGTH = 128
"""How long sequences are made where neither the model nor the table says it."""


@dataclass(frozen=True, slots=True)
class BoundInput:
    """One input of the model, and what was found for it.

    Attributes:
        name: Its name.
        spec: The input, as the model takes it.
        columns: The columns that feed it.
        options: What must be said of how they are read.
        uses: How each of them is used, by the first schema.
        remarks: What the user should look at.
    """

    name: str
    spec: InputSpec
    columns: tuple[str, ...]
    options: dict[str, Any]
    uses: tuple[ColumnUse, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _One:
    """A single input, as the binding takes inputs."""

    inputs: tuple[InputSpec, ...]


def bound_inputs(signature: Signature, job: Job, schema: pa.Schema) -> tuple[BoundInput, ...]:
    """Binds each input of a model to columns of a schema.

    Raises:
        ContractError: An input finds no column, or those it has cannot feed it.
        ConfigError: Which columns feed the model cannot be told.
    """
    specs = feed_for(signature, job, None, [schema]).inputs
    wanted = dict(job.input_columns)
    if job.features:
        wanted = {specs[0].name: job.features} if len(specs) == 1 else {"features": job.features}
    unknown = [name for name in wanted if name not in {spec.name for spec in specs}]
    if unknown:
        raise ConfigError(
            f"the model has no input {unknown[0]!r}",
            expected=", ".join(spec.name for spec in specs),
            hint="leave --features out: each input takes the column of its name",
        )
    binder = _Binder(signature, job, schema)
    found = []
    for spec in specs:
        if spec.name in wanted:
            columns = expand(wanted[spec.name], schema, f"input {spec.name!r}")
            found.append(binder.bound(spec, columns))
        else:
            columns, remark = _found(spec, binder, alone=len(specs) == 1)
            found.append(binder.bound(spec, columns, remark))
    return tuple(found)


def _found(spec: InputSpec, binder: _Binder, *, alone: bool) -> tuple[tuple[str, ...], str | None]:
    """The columns of an input that the job does not map, and a remark on them."""
    names = [name for name in binder.schema.names if name]  # a job cannot name one without a name
    if spec.name in names:
        return (spec.name,), None
    near = [name for name in names if _plain(name) == _plain(spec.name)]
    if len(near) == 1:
        return (near[0],), f"no column is called {spec.name}; {near[0]} is taken for it"
    fitting = [name for name in names if binder.fits(spec, name)]
    if alone and len(fitting) == 1:
        return (fitting[0],), "the only column that fits"
    width = spec.shape[0] if len(spec.shape) == 1 else None
    scalars = [name for name in names if binder.fits(spec, name, as_part=True)]
    if alone and not fitting and width is not None and len(scalars) == width:
        return (
            tuple(scalars),
            "all columns that fit, in the table's order: is it the order of the training?",
        )
    told = fitting or scalars
    error = ConfigError if alone else ContractError
    raise error(
        "which columns feed the model is not said"
        if alone
        else f"no column feeds the model's input {spec.name!r}",
        column=None if alone else spec.name,
        expected=f"columns for {spec}",
        received=f"columns whose types fit: {shortened(told)}"
        if told
        else f"no column whose type fits, among {shortened(names)}",
        hint="name them in order with --features (names or globs)"
        if alone
        else "rename the column, or write the [inputs] table of a job file by hand",
    )


def _plain(name: str) -> str:
    """A name without case and punctuation, by which dep_delay and DepDelay are one."""
    return re.sub(r"[\W_]+", "", name).casefold()


@dataclass(frozen=True, slots=True)
class _Binder:
    """Binds one input at a time, as a run would if the job said so.

    Attributes:
        signature: The model's.
        job: The job.
        schema: The first shard's.
    """

    signature: Signature
    job: Job
    schema: pa.Schema

    def bound(
        self, spec: InputSpec, columns: tuple[str, ...], remark: str | None = None
    ) -> BoundInput:
        """An input bound to columns, with what must be said of them.

        Raises:
            ContractError: They cannot feed it.
        """
        given = self.job.inputs[spec.name].said if spec.name in self.job.inputs else {}
        failures: list[ShardscoreError] = []
        for options, guess in self._ways(spec, columns):
            said = {**options, **given}
            try:
                uses = self._checked(spec, columns, said)
            except (ContractError, ConfigError) as error:
                failures.append(error)
                continue
            remarks = tuple(text for text in (remark, guess) if text)
            return BoundInput(spec.name, spec, columns, said, uses, remarks)
        raise failures[0]

    def fits(self, spec: InputSpec, name: str, *, as_part: bool = False) -> bool:
        """Whether a column can feed an input, or be a part of a vector that does."""
        if as_part:
            column = find(self.schema, name)[0]
            return (
                nesting(column.type)[0] == ()
                and conversion_of(column.type, spec.dtype, "days") is not None
            )
        try:
            self.bound(spec, (name,))
        except (ContractError, ConfigError):
            return False
        return True

    def _checked(
        self, spec: InputSpec, columns: tuple[str, ...], options: dict[str, Any]
    ) -> tuple[ColumnUse, ...]:
        told = InputOptions.model_validate({"columns": columns, **options})
        inputs = {**self.job.inputs, spec.name: told}
        job = self.job.model_copy(update={"features": (), "inputs": inputs})
        if job.preprocess is None:  # with it the job has said all, and the feed is made by it
            fed = feed_for(self.signature, job, None, [self.schema])
            spec = next(one for one in fed.inputs if one.name == spec.name)
        reading = Reading(inputs, job.time_unit, ANY_LOSS)
        return check(_One((spec,)), {spec.name: columns}, self.schema, reading).inputs[0].uses

    def _ways(
        self, spec: InputSpec, columns: Sequence[str]
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """What may be said of how columns are read, the least first, and a remark on each."""
        yield {}, None
        found = [column for name in columns for column in find(self.schema, name)]
        kinds = [value_type(column.type) for column in found]
        if any(map(is_time, kinds)):
            unit = _unit(kinds, spec.dtype)
            yield (
                {"unit": unit},
                f"counting in {unit} is a guess: take the unit of the training (days, s, ms, us, "
                "ns; dates and timestamps since 1970)",
            )
        if len(spec.shape) == 3 and any(map(is_bytes, kinds)):
            yield (
                {"image": True},
                "encoded images, their pixels 0 to 255; image = { fit = …, scale = … } says more",
            )
        if spec.shape and any(nesting(column.type)[0] for column in found):
            length = spec.shape[0] or _LENGTH
            yield (
                {"length": length},
                f"shorter lists are padded with 0 to {length}, longer ones are bad rows unless "
                'truncate = "end" or "start"',
            )


def _unit(kinds: Iterable[pa.DataType], dtype: str) -> str:
    """A unit in which times lose the least: whole numbers their own, floats one of few digits."""
    first = next(kind for kind in kinds if is_time(kind))
    if dtype not in MANTISSA:
        return unit_of(first) if dtype in {"int64", "uint64"} or pt.is_date32(first) else "s"
    return "days" if pt.is_date(first) or pt.is_timestamp(first) else "s"
