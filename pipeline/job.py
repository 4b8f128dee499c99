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
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pipeline.records import Method  # noqa: TC001 - pydantic reads it at run time

BadRowPolicy = Literal["fail", "null", "quarantine"]
MethodChoice = Literal["auto", "predict_on_batch", "predict", "predict_step"]


def _as_tuple(value: Any) -> Any:
    """Lets a single string stand for a list of one, as people write it in TOML."""
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)]


class Job(BaseModel):
    """What to score with what, as asked for.

    Attributes:
        model: Path of the model.
        model_sha256: Digest that the model file must have, or None.
        imports: Modules (dotted names, or paths of `.py` files) that register the model's classes.
        input: Files, folders or globs of Parquet shards.
        output: Folder of the predictions.
        features: Column names or globs, in order, for a model with a single input.
        inputs: For a model with named inputs: input name → column names or globs.
        keep: Columns carried along: `unused`, `all`, `none`, or names and globs.
        batch_size: Rows a batch, or `auto`: a pure function of the model's signature.
        small_shard_rows: Shards of at most this many rows go to `predict()`; None: the batch
            size; 0: never.
        method: Which of Keras' prediction methods streams.
        on_bad_row: What happens to a row that cannot be scored.
        follow_links: Whether links that lead out of an input are followed. Links within one
            always are.
        rescore_changed: Whether a shard that has changed since it was published is scored anew.
        checkpoint_every: Seconds between two checkpoints of a big shard; 0: at each batch.
        shard_index: Which share of the shards to score, from 0; None: all of them.
        shard_count: How many shares there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    model: Annotated[str, Field(min_length=1)]
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    imports: Names = ()
    input: Annotated[Names, Field(min_length=1)]
    output: Annotated[str, Field(min_length=1)]
    features: Names = ()
    inputs: dict[str, Names] = Field(default_factory=dict)
    keep: Annotated[Names, Field(min_length=1)] = ("unused",)
    batch_size: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | Literal["auto"] = "auto"
    small_shard_rows: Annotated[int, Field(ge=0, strict=True)] | None = None
    method: MethodChoice = "auto"
    on_bad_row: BadRowPolicy = "fail"
    follow_links: bool = False
    rescore_changed: bool = False
    checkpoint_every: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    shard_index: Annotated[int, Field(ge=0, strict=True)] | None = None
    shard_count: Annotated[int, Field(ge=1, strict=True)] | None = None

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


class JobIdentity(BaseModel):
    """All that decides the content of an output, for a given shard; nothing that does not.

    Attributes:
        format: Version of this record.
        model_sha256: Digest of the model file.
        code_sha256: Digest of the modules named by `imports`, whose code runs in the model.
        binding: Model input → the columns that feed it, globs resolved.
        keep: As in `Job`.
        batch_size: Rows a batch, decided.
        small_shard_rows: Threshold, decided.
        method: How big shards are streamed, decided by the probe.
        small_method: How small shards are scored.
        on_bad_row: As in `Job`.
        predictions: Prediction column → its Arrow type, as text.
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

    @property
    def fingerprint(self) -> str:
        """Digest of the identity; each published file carries it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
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
        pairs["inputs"] = (record.asked_inputs, job.inputs)
    return {
        name: (_shown(was), _shown(wanted))
        for name, (was, wanted) in pairs.items()
        if was != wanted
    }


def small_method(choice: MethodChoice) -> Method:
    """How small shards are scored: by `predict()`, unless the user named a method."""
    return "predict" if choice == "auto" else choice


def _shown(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"sha256 {value[:12]}…"
    if isinstance(value, tuple):
        return ", ".join(value) or "(none)"
    if isinstance(value, dict):
        return (
            "; ".join(f"{name} = {_shown(columns)}" for name, columns in value.items()) or "(none)"
        )
    return str(value)
