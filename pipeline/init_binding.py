"""How `init` binds inputs: as a run would, and where more must be said, by saying the least that
works.

The columns of an input are those that the job names, else the one of its name, else one whose name
differs in case or punctuation alone; a single input may also take the only column that fits. What
is left is open: the input gets a proposal and a question, and the user decides. So does what is
said of how columns are read, where another value would run as well and predict something else.

Whether columns can feed an input is not decided here: the binding is asked, first with nothing
said, then with one thing after the other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.binding import Reading, check
from pipeline.columns import expand, find, nesting, value_type
from pipeline.conversions import conversion_of, is_time
from pipeline.errors import ConfigError, ContractError, ShardscoreError, shortened
from pipeline.feed import feed_for
from pipeline.init_candidates import likeness, plain, ranked
from pipeline.init_ways import ways
from pipeline.input_options import InputOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pyarrow as pa

    from pipeline.binding import ColumnUse
    from pipeline.job import Job
    from pipeline.signature import InputSpec, Signature

ANY_LOSS = ("*",)


@dataclass(frozen=True, slots=True)
class BoundInput:
    """One input of the model, and what was found for it.

    Attributes:
        name: Its name.
        spec: The input, as the model takes it.
        columns: The columns that feed it, or that are proposed to.
        options: What must be said of how they are read.
        uses: How each of them is used, by the first schema.
        remarks: What the user should look at.
        question: What the user has to decide; None: nothing, all of it was found.
        others: Columns that could feed it in the place of those proposed, the likeliest first.
        feeds: Whether the columns can feed it as they stand; not where they are too many or too
            few.
    """

    name: str
    spec: InputSpec
    columns: tuple[str, ...]
    options: dict[str, Any]
    uses: tuple[ColumnUse, ...]
    remarks: tuple[str, ...] = ()
    question: str | None = None
    others: tuple[str, ...] = ()
    feeds: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a model's inputs, as the binding takes inputs."""

    inputs: tuple[InputSpec, ...]


def bound_inputs(signature: Signature, job: Job, schema: pa.Schema) -> tuple[BoundInput, ...]:
    """Binds each input of a model to columns of a schema, or proposes some.

    Raises:
        ContractError: Columns that the job names cannot feed their input.
        ConfigError: The job says what does not fit the model.
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
    found: dict[str, BoundInput] = {}
    complaints: dict[str, str] = {}
    for spec in specs:
        if spec.name in wanted:
            columns = expand(wanted[spec.name], schema, f"input {spec.name!r}")
            found[spec.name] = binder.bound(spec, columns)
            continue
        try:
            one = binder.named(spec) or (binder.only(spec) if len(specs) == 1 else None)
        except (ContractError, ConfigError) as error:
            complaints[spec.name] = "; ".join(filter(None, (error.message, error.received)))
        else:
            found |= {} if one is None else {spec.name: one}
    taken = {column for one in found.values() for column in one.columns}
    for spec in specs:
        if spec.name not in found:
            one = found[spec.name] = binder.proposed(spec, taken, complaints.get(spec.name))
            taken.update(one.columns if one.feeds else ())
    return tuple(found[spec.name] for spec in specs)


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

    def named(self, spec: InputSpec) -> BoundInput | None:
        """An input bound to the column of its name, or nearly so; None if there is none.

        Raises:
            ContractError: That column cannot feed it.
        """
        if spec.name in self.schema.names:
            return self.bound(spec, (spec.name,))
        near = [name for name in self._names if plain(name) and plain(name) == plain(spec.name)]
        if len(near) != 1:
            return None
        remark = f"no column is called {spec.name}; {near[0]} is taken for it"
        return self.bound(spec, (near[0],), remark)

    def only(self, spec: InputSpec) -> BoundInput | None:
        """An input bound to the only column that fits it, first of those of which nothing need be
        said; None if there is none, or more than one."""
        fitting = self._fitting(spec)
        at_once = [one for one in fitting.values() if not one.options]
        alone = at_once or list(fitting.values())
        if len(alone) != 1:
            return None
        one = replace(alone[0], remarks=("the only column that fits", *alone[0].remarks))
        scalar = one.uses[0].dims is None
        if scalar and one.question is None and not likeness(spec.name, one.columns[0]):
            # A run takes the only column of lists; of scalars none, whose name is another.
            return replace(
                one, question=f"is it {one.columns[0]}? Its type fits, its name says nothing"
            )
        return one

    def proposed(
        self, spec: InputSpec, taken: Collection[str], complaint: str | None
    ) -> BoundInput:
        """An input for which the user is to choose among the columns whose types fit.

        Args:
            spec: The input.
            taken: Columns that feed other inputs.
            complaint: Why the column of its name cannot feed it.
        """
        fitting = self._fitting(spec)
        told = (complaint,) if complaint else ()
        times = [name for name in self._names if self._is_bare_time(spec, name)]
        if fitting:
            first, *others = ranked(spec.name, fitting, taken, times)
            one = fitting[first]
            fit = [name for name in others if name not in times]
            late = [name for name in others if name in times]
            by_name = likeness(spec.name, first) > 0
            if fit and not by_name:
                return _among(spec, [fitting[name] for name in (first, *fit)], told, late)
            why = "by its name" if by_name else "by its type alone"
            remarks = told + ((one.question,) if one.question else ()) + one.remarks
            if fit:
                remarks += (f"or, since their types fit as well: {', '.join(fit)}",)
            remarks += _with_a_unit(late)
            question = f"which column feeds it? {first} is a guess, {why}"
            return replace(one, question=question, remarks=remarks, others=tuple(others))
        parts = [name for name in self._names if self._is_part(spec, name)]
        if len(spec.shape) != 1 or not set(parts) - set(times):
            listed = [f"{field.name} ({field.type})" for field in self.schema]
            remarks = (*told, f"columns: {shortened(listed)}")
            question = "which column feeds it? None has a type that fits"
            return BoundInput(spec.name, spec, (), {}, (), remarks, question, feeds=False)
        return self._side_by_side(spec, parts, taken, times, told)

    def _side_by_side(
        self,
        spec: InputSpec,
        parts: Sequence[str],
        taken: Collection[str],
        times: Collection[str],
        told: tuple[str, ...],
    ) -> BoundInput:
        """A vector, for which columns of numbers are proposed: all that may be meant, in the
        table's order, since a model is usually trained in that."""
        likely = [name for name in parts if name not in times]
        free = [name for name in likely if name not in taken]
        width = spec.shape[0]
        columns = tuple(free if width is None or len(free) >= width else likely)
        count = len(columns)
        order = "in the order of the training"
        if width is None or count == width:
            question = f"are these its columns, {order}? They are all whose types fit"
        elif count > width:
            question = f"which {width} of these {count} columns feed it, {order}? Their types fit"
        else:
            question = f"which {width} columns feed it, {order}? Of {count} alone the types fit"
        question += ", in the table's order"
        remarks = told
        if late := [name for name in parts if name in times]:
            remarks += (f"left out, since times need a unit: {', '.join(late)}",)
        if used := [name for name in likely if name not in columns]:
            remarks += (f"left out, since they feed other inputs: {', '.join(used)}",)
        # However many they are: how each is converted can be told.
        wide = replace(spec, shape=(count,))
        reading = Reading({}, self.job.time_unit, ANY_LOSS)
        uses = check(Part((wide,)), {spec.name: columns}, self.schema, reading).inputs[0].uses
        return BoundInput(
            spec.name,
            spec,
            columns,
            {},
            uses,
            remarks,
            question,
            others=tuple(late + used),
            feeds=width is None or count == width,
        )

    def bound(
        self, spec: InputSpec, columns: tuple[str, ...], remark: str | None = None
    ) -> BoundInput:
        """An input bound to columns, with what must be said of them.

        Raises:
            ContractError: They cannot feed it.
        """
        given = self.job.inputs[spec.name].said if spec.name in self.job.inputs else {}
        failures: list[ShardscoreError] = []
        for way in ways(spec, [one for name in columns for one in find(self.schema, name)]):
            said = {**way.options, **given}
            try:
                uses = self._checked(spec, columns, said)
            except (ContractError, ConfigError) as error:
                failures.append(error)
                continue
            remarks = ((remark,) if remark else ()) + way.remarks
            question = None if way.options.keys() <= given.keys() else way.question
            return BoundInput(spec.name, spec, columns, said, uses, remarks, question)
        raise failures[0]

    @property
    def _names(self) -> list[str]:
        """The columns that a job can name: those with a name, and one that is theirs alone."""
        times = Counter(self.schema.names)
        return [name for name, count in times.items() if name and count == 1]

    def _fitting(self, spec: InputSpec) -> dict[str, BoundInput]:
        """The columns that can feed an input by themselves, in the table's order."""
        fitting = {}
        for name in self._names:
            try:
                fitting[name] = self.bound(spec, (name,))
            except (ContractError, ConfigError):
                continue
        return fitting

    def _is_part(self, spec: InputSpec, name: str) -> bool:
        """Whether a column can be a part of a vector."""
        column = find(self.schema, name)[0]
        return (
            nesting(column.type)[0] == ()
            and conversion_of(column.type, spec.dtype, "days") is not None
        )

    def _is_bare_time(self, spec: InputSpec, name: str) -> bool:
        """Whether a column holds times, of which nobody says what they are counted in."""
        is_number = self.job.time_unit is None and spec.dtype != "string"
        return is_number and is_time(value_type(find(self.schema, name)[0].type))

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
        return check(Part((spec,)), {spec.name: columns}, self.schema, reading).inputs[0].uses


def _among(
    spec: InputSpec, fitting: Sequence[BoundInput], told: tuple[str, ...], late: Sequence[str]
) -> BoundInput:
    """An input to which several columns fit, none of which its name points to. None is proposed:
    the first of them may be an id, and predictions of ids look like predictions."""
    questions = {one.question for one in fitting if one.question}
    names = [one.columns[0] for one in fitting]
    remarks = (*told, f"their types fit: {', '.join(names)}", *_with_a_unit(late))
    return BoundInput(
        spec.name,
        spec,
        (),
        {},
        (),
        remarks + (tuple(questions) if len(questions) == 1 else ()),
        "which column feeds it?",
        others=(*names, *late),
        feeds=False,
    )


def _with_a_unit(late: Sequence[str]) -> tuple[str, ...]:
    return (f"or, with a unit, since they are times: {', '.join(late)}",) if late else ()
