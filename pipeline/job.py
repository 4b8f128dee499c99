"""`Job`: what to score with what, and how; `JobIdentity`: the part that decides the bytes.

A `Job` is what the user asked for; it is validated when built, so a half-valid one cannot exist.
Some of its values may be left to the program (`batch_size="auto"`, `method="auto"`). What they
became is decided once, when an output is begun, and kept in its `run.json` as a `JobIdentity`:
a later run with `auto` takes the recorded decision, and one that asks for something else is
refused. This module owns those two records and their comparison. It knows neither TensorFlow nor
storage.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pipeline.input_options import InputOptions, Names, Unit, as_options
from pipeline.records import Method  # noqa: TC001 - pydantic reads it at run time

BadRowPolicy = Literal["fail", "null", "quarantine"]
MethodChoice = Literal["auto", "predict_on_batch", "predict", "predict_step"]


def _as_text(value: Any) -> Any:
    """Lets a `Path` stand for its text, as people write it in Python."""
    return str(value) if isinstance(value, Path) else value


def _as_texts(value: Any) -> Any:
    return [_as_text(v) for v in value] if isinstance(value, (list, tuple)) else _as_text(value)


Address = Annotated[str, Field(min_length=1), BeforeValidator(_as_text)]

Nonfinite = Literal["allow", "bad"]
Hook = Annotated[str, Field(pattern=r"^.+:[A-Za-z_][A-Za-z0-9_]*$")]
"""A function of the user's: `module:function`, or `path/to/file.py:function`."""

BadRowLimit = (
    Annotated[int, Field(ge=0, strict=True)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)?%$")]
)

PlanId = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
"""Part of a file's name, so no more than what Kubernetes' names and uids are made of."""

InputTable = Annotated[InputOptions, BeforeValidator(as_options)]


class Job(BaseModel):
    """What to score with what, as asked for.

    Attributes:
        model: Path of the model.
        model_sha256: Digest that the model file must have, or None.
        imports: Modules (dotted names, or paths of `.py` files) that register the model's classes.
        input: Files, folders or globs of Parquet shards.
        output: Folder of the predictions.
        features: Column names or globs, in order, for a model with a single input.
        inputs: For a model with named inputs: input name → its columns, and how they are read.
        time_unit: What times are counted in, for inputs that do not say it themselves.
        allow_lossy: Columns (names or globs) that may lose precision on their way into the model.
        preprocess: A function from the columns' tensors to what the model takes, in the graph.
        postprocess: A function from a batch's outputs to those that are written.
        labels: Names of a classifier's classes, in order.
        top_k: How many of the likeliest classes are written beside the outputs.
        label_output: The output that `labels` and `top_k` are about, if it is not plain.
        keep: Columns carried along: `unused`, `all`, `none`, or names and globs.
        batch_size: Rows a batch, or `auto`: a pure function of the model's signature.
        small_shard_rows: Shards of at most this many rows go to `predict()`; None: the batch
            size, but 8,192 at most; 0: never.
        method: Which of Keras' prediction methods streams.
        on_bad_row: What happens to a row that cannot be scored.
        max_bad_rows: Most bad rows that a shard may have, a number or a percentage (`1%`).
        nonfinite: Whether a row whose prediction is NaN or infinite is a bad one.
        follow_links: Whether links that lead out of an input are followed. Links within one
            always are.
        rescore_changed: Whether a shard that has changed since it was published is scored anew.
        checkpoint_every: Seconds between two checkpoints of a big shard; 0: at each batch.
        shard_index: Which share of the shards to score, from 0; None: all of them.
        shard_count: How many shares there are.
        plan_id: What the listing of the input is frozen as, by the first run that names it so.
        workers: Processes that score, a shard at a time each; `auto`: what the machine and the
            work are good for (`pipeline.capacity`).
        threads: Threads in each pool of a process; `auto`: the cores, divided by the workers.
        baseline: An earlier output, with whose predictions those of this one are compared.
        max_drift: The population stability index up to which they may differ (`pipeline.guard`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    model: Address
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    imports: Names = ()
    input: Annotated[Names, BeforeValidator(_as_texts), Field(min_length=1)]
    output: Address
    features: Names = ()
    inputs: dict[str, InputTable] = Field(default_factory=dict)
    time_unit: Unit | None = None
    allow_lossy: Names = ()
    preprocess: Hook | None = None
    postprocess: Hook | None = None
    labels: Names = ()
    top_k: Annotated[int, Field(ge=1, strict=True)] | None = None
    label_output: Annotated[str, Field(min_length=1)] | None = None
    keep: Annotated[Names, Field(min_length=1)] = ("unused",)
    batch_size: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | Literal["auto"] = "auto"
    small_shard_rows: Annotated[int, Field(ge=0, strict=True)] | None = None
    method: MethodChoice = "auto"
    on_bad_row: BadRowPolicy = "fail"
    max_bad_rows: BadRowLimit | None = None
    nonfinite: Nonfinite = "allow"
    follow_links: bool = False
    rescore_changed: bool = False
    checkpoint_every: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    shard_index: Annotated[int, Field(ge=0, strict=True)] | None = None
    shard_count: Annotated[int, Field(ge=1, strict=True)] | None = None
    plan_id: PlanId | None = None
    workers: Annotated[int, Field(ge=1, le=1024, strict=True)] | Literal["auto"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024, strict=True)] | Literal["auto"] = "auto"
    baseline: Address | None = None
    max_drift: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _drift_from_something(self) -> Self:
        if self.max_drift is not None and self.baseline is None:
            raise ValueError("max_drift needs baseline, an earlier output to compare with")
        return self

    @model_validator(mode="after")
    def _a_share_of_how_many(self) -> Self:
        index, count = self.shard_index, self.shard_count
        if (index is None) != (count is None):
            raise ValueError("shard_index and shard_count go together")
        if index is not None and count is not None and index >= count:
            raise ValueError(
                f"shard_index counts from 0: with {count} shares the last is {count - 1}"
            )
        return self

    @property
    def input_columns(self) -> dict[str, tuple[str, ...]]:
        """Input → the columns that the job names for it, globs not resolved."""
        return {name: table.columns or (name,) for name, table in self.inputs.items()}

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code decides the predictions: those imported, and the hooks'."""
        hooks = [hook for hook in (self.preprocess, self.postprocess) if hook is not None]
        return tuple(dict.fromkeys([*self.imports, *(hook.rpartition(":")[0] for hook in hooks)]))

    @model_validator(mode="after")
    def _labels_of_an_output(self) -> Self:
        if self.label_output is not None and not self.labels and self.top_k is None:
            raise ValueError("label_output says what labels or top_k are about: give one of them")
        return self

    @model_validator(mode="after")
    def _one_way_to_bind(self) -> Self:
        if self.features and self.inputs:
            raise ValueError(
                "features and inputs exclude each other: features are the columns of a single "
                "input, inputs maps each named input to its columns"
            )
        return self

    @field_validator("keep")
    @classmethod
    def _one_word_or_names(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        words = {"unused", "all", "none"} & set(keep)
        if words and len(keep) > 1:
            raise ValueError(f"keep takes {sorted(words)[0]!r} alone, or a list of names and globs")
        return keep


class FedInput(BaseModel):
    """What columns feed into a `preprocess` hook under one name: one row's shape, and the type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...]
    dtype: str


class JobIdentity(BaseModel):
    """All that decides the content of an output, for a given shard; nothing that does not.

    Attributes:
        format: Version of this record.
        model_sha256: Digest of the model file.
        code_sha256: Digest of the job's `modules`, and of the user's other files that they import.
        binding: Model input → the columns that feed it, globs resolved.
        keep: As in `Job`.
        batch_size: Rows a batch, decided.
        small_shard_rows: Threshold, decided.
        method: How big shards are streamed, decided by the probe.
        small_method: How small shards are scored.
        on_bad_row: As in `Job`.
        predictions: Prediction column → its Arrow type, as text.
        fed: With `preprocess`: what the columns feed into it, as `name: dtype (n, …)`.
        inputs: Input → what the job says of how its columns are read.
        time_unit, allow_lossy, preprocess, postprocess, labels, top_k, label_output, nonfinite:
            As in `Job`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model_sha256: str
    code_sha256: str
    binding: dict[str, tuple[str, ...]]
    keep: tuple[str, ...]
    batch_size: int
    small_shard_rows: int
    method: Method
    small_method: Method
    on_bad_row: BadRowPolicy
    predictions: dict[str, str]
    fed: tuple[FedInput, ...] = ()
    inputs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    time_unit: Unit | None = None
    allow_lossy: tuple[str, ...] = ()
    preprocess: str | None = None
    postprocess: str | None = None
    labels: tuple[str, ...] = ()
    top_k: int | None = None
    label_output: str | None = None
    nonfinite: Nonfinite = "allow"

    @property
    def fingerprint(self) -> str:
        """Digest of the identity; each published file carries it.

        What has a default and is left at it is no part of the digest, so that an output stays
        its job's when a later version can be told more.
        """
        stated = self.model_dump(mode="json", exclude_defaults=True) | {"format": self.format}
        text = json.dumps(stated, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class RunRecord(BaseModel):
    """`_shardscore/run.json`: whose output this is. Created once, never changed.

    Attributes:
        identity: What decides the bytes.
        asked_features: The `features` that were asked for, globs not resolved.
        asked_inputs: The `inputs` that were asked for, likewise.
        probe: What the probe found, in words.
        created_with: Versions of the programs that began the output. They are not part of the
            identity: an upgrade does not make last month's output another job's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: JobIdentity
    asked_features: tuple[str, ...]
    asked_inputs: dict[str, tuple[str, ...]]
    probe: str
    created_with: dict[str, str]


AS_ASKED = (
    "time_unit",
    "allow_lossy",
    "preprocess",
    "postprocess",
    "labels",
    "top_k",
    "label_output",
    "nonfinite",
)
"""What is recorded of a job as it was asked for."""


def disagreements(
    job: Job, model_sha256: str, code_sha256: str, record: RunRecord
) -> dict[str, tuple[str, str]]:
    """Where a job contradicts the output that it would continue.

    A value that the job leaves open (`auto`, no features) contradicts nothing.

    Returns:
        Name → (what the output was made with, what the job asks for); empty if it may go on.
    """
    made = record.identity
    pairs: dict[str, tuple[Any, Any]] = {
        "model_sha256": (made.model_sha256, model_sha256),
        "code_sha256": (made.code_sha256, code_sha256),
        "keep": (made.keep, job.keep),
        "on_bad_row": (made.on_bad_row, job.on_bad_row),
        **{name: (getattr(made, name), getattr(job, name)) for name in AS_ASKED},
    }
    if job.small_shard_rows is not None:
        pairs["small_shard_rows"] = (made.small_shard_rows, job.small_shard_rows)
    if job.batch_size != "auto":
        pairs["batch_size"] = (made.batch_size, job.batch_size)
    if job.method != "auto":
        pairs["method"] = (made.method, job.method)
        pairs["small_method"] = (made.small_method, small_method(job.method))
    if job.features or job.inputs:
        pairs["features"] = (record.asked_features, job.features)
        pairs["inputs"] = (record.asked_inputs, job.input_columns)
    if job.inputs:
        pairs["input options"] = (made.inputs, input_options(job))
    return {
        name: (_shown(was), _shown(wanted))
        for name, (was, wanted) in pairs.items()
        if was != wanted
    }


def input_options(job: Job) -> dict[str, dict[str, Any]]:
    """What a job says of how each input's columns are read, where it says anything."""
    return {name: table.said for name, table in job.inputs.items() if table.said}


def small_method(choice: MethodChoice) -> Method:
    """How small shards are scored: by `predict()`, unless the user named a method."""
    return "predict" if choice == "auto" else choice


def _shown(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"sha256 {value[:12]}…"
    if isinstance(value, tuple):
        return ", ".join(value) or "(none)"
    if isinstance(value, dict):
        return "; ".join(f"{name} = {_shown(said)}" for name, said in value.items()) or "(none)"
    return "(none)" if value is None else str(value)
