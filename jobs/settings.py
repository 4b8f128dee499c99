"""From the command line, the environment and a TOML file to a `Job`, in that precedence.

The command line and the environment reach us through Typer, as one set of values of which those
not given are None. A TOML file's relative paths are relative to the file, so that a job can be
run from anywhere; those of the command line are relative to the current folder.
"""

from __future__ import annotations

import glob
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.wrong_values import explained, unknown_key
from pipeline.classes import read_labels
from pipeline.errors import ConfigError
from pipeline.job import Job
from pipeline.spelling import near
from pipeline.storage.locate import has_scheme
from pipeline.toml_text import not_toml

_PATHS = ("model", "input", "output", "baseline", "labels")
_HOOKS = ("preprocess", "postprocess")


def job_from(given: dict[str, Any], config: Path | None, **otherwise: Any) -> Job:
    """Builds the job.

    Args:
        given: Values of the command line and the environment by the job's field; None: not given.
        config: The TOML file, if there is one.
        otherwise: Values for fields that neither says, where a command can do without them.

    Raises:
        UsageError: A value of the command line is wrong, or a needed one is missing.
        ConfigError: The TOML file is wrong.
    """
    stored = {} if config is None else _read(config)
    chosen = {name: value for name, value in given.items() if value is not None}
    if "features" in chosen:  # the two ways to name columns exclude each other
        stored.pop("inputs", None)
    for values in (stored, chosen):
        if isinstance(values.get("labels"), str):  # a file of them, where a list would say them
            values["labels"] = read_labels(values["labels"])
    asked = {**otherwise, **stored, **chosen}
    try:
        return Job.model_validate(asked)
    except ValidationError as error:
        raise explained(error, asked, chosen, str(config)) from error


def planned_from(given: dict[str, Any], config: Path | None) -> tuple[Job, int | None]:
    """As `job_from`, for a command that can tell of shares without being one of them.

    Returns:
        The job, and how many shares are to be told of.
    """
    count = given["shard_count"]
    if count is not None and given["shard_index"] is None:
        job = job_from({**given, "shard_count": None}, config)
        if job.shard_index is None:
            return job, count
    job = job_from(given, config)
    return job, job.shard_count


def _read(config: Path) -> dict[str, Any]:
    try:
        text = config.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"the configuration cannot be read: {error.strerror}",
            path=str(config),
            hint=near(config, "check the path of --config"),
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "the configuration is not TOML", path=str(config), received=str(error)
        ) from error
    except ValueError as error:
        raise not_toml(error, text, str(config)) from error
    unknown = sorted(set(values) - set(Job.model_fields))
    if unknown:
        raise unknown_key((unknown[0],), Job, str(config))
    if not isinstance(values.get("inputs", {}), dict):
        raise ConfigError(
            "inputs is a table: each input of the model = its columns",
            path=str(config),
            received=repr(values["inputs"]),
            hint="the shards are named by input, without an s",
        )
    for name in _PATHS:
        if name in values and not (name == "labels" and isinstance(values[name], list)):
            values[name] = _beside(config, values[name], may_be_glob=name == "input")
    modules = values.get("imports")
    if isinstance(modules, str):
        modules = [modules]
    if isinstance(modules, list):
        values["imports"] = [
            _beside(config, item) if str(item).endswith(".py") else item for item in modules
        ]
    for hook in _HOOKS:
        if ".py:" in str(values.get(hook, "")):
            values[hook] = _beside(config, values[hook])
    return values


def _beside(config: Path, value: Any, *, may_be_glob: bool = False) -> Any:
    if isinstance(value, list):
        return [_beside(config, item, may_be_glob=may_be_glob) for item in value]
    if not isinstance(value, str) or not value or has_scheme(value):
        return value
    folder = config.absolute().parent
    if may_be_glob and glob.has_magic(value):
        folder = Path(glob.escape(str(folder)))
    return str(folder / value)
