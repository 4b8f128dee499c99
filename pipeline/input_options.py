"""How the columns of one input are to be read: what a job's `[inputs.NAME]` table may say.

All that a column's type and the model's signature leave open is said here, by the user, and nothing
of it is guessed: the unit of a time, the length of a sequence, the size of an image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

Unit = Literal["days", "s", "ms", "us", "ns"]
"""What a time is counted in, from 1970-01-01 00:00 UTC on; a duration is counted alike."""

Pad = Literal["after", "before"]
Truncate = Literal["never", "end", "start"]
Resize = Literal["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian"]
Fit = Literal["stretch", "pad", "crop"]
Scale = Literal["none", "0..1", "-1..1"]


def _as_tuple(value: Any) -> Any:
    """Lets a single string stand for a list of one, as people write it in TOML."""
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)]


class ImageOptions(BaseModel):
    """How encoded images (PNG, JPEG, WebP …) become numbers.

    Attributes:
        size: Height and width in pixels; None: those of the model's input.
        channels: 1 is gray, 3 is colour, 4 has alpha; None: those of the model's input, or 3 for
            a hook.
        resize: How pixels are interpolated.
        fit: How an image of another shape is made to fit: `stretch`; `pad` (whole, with black
            borders); `crop` (the middle, the edges cut off).
        scale: The range of a pixel's value: `none` keeps 0 to 255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    channels: Literal[1, 3, 4] | None = None
    resize: Resize = "bilinear"
    fit: Fit = "stretch"
    scale: Scale = "none"


def _as_image(value: Any) -> Any:
    """Lets `image = true` stand for an image with nothing more to say."""
    return {} if value is True else None if value is False else value


def _as_pad_value(value: Any) -> Any:
    """Refuses what no sequence is padded with, in one sentence for all types that could be."""
    finite = not isinstance(value, float) or math.isfinite(value)  # no strict JSON; NaN != NaN
    if finite and isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError("a finite number, true, false or a text")


class InputOptions(BaseModel):
    """How the columns of one input are read.

    Attributes:
        columns: Names, globs or dotted paths into structs, in order; none: the input's own name.
        dtype: The input's type, where the model does not declare one (a subclassed model).
        shape: One row's shape, likewise.
        unit: What dates, times and durations are counted in.
        length: How long each sequence is made, by padding and truncation.
        pad: Where a sequence that is too short is padded.
        pad_value: With what.
        truncate: Which end of a sequence that is too long is cut off; `never`: it is a bad row.
        image: How encoded images are decoded; None: the column holds no images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Names = ()
    dtype: str | None = None
    shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    unit: Unit | None = None
    length: Annotated[int, Field(ge=1, strict=True)] | None = None
    pad: Pad = "after"
    pad_value: Annotated[bool | int | float | str, BeforeValidator(_as_pad_value)] = 0
    truncate: Truncate = "never"
    image: Annotated[ImageOptions | None, BeforeValidator(_as_image)] = None

    @model_validator(mode="after")
    def _padded_to_a_length(self) -> Self:
        said = [n for n in ("pad", "pad_value", "truncate") if getattr(self, n) != _default(n)]
        if self.length is None and said:
            raise ValueError(f"{said[0]} is for sequences that are made of one length: say length")
        return self

    @model_validator(mode="after")
    def _either_images_or_numbers(self) -> Self:
        said = [n for n in ("unit", "length") if getattr(self, n) is not None]
        if self.image is not None and said:
            raise ValueError(f"an image has no {said[0]}: leave out image or {said[0]}")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """All but the columns, as far as it is not the default: what a record keeps."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"columns"})


def _default(name: str) -> Any:
    return InputOptions.model_fields[name].default


def as_options(value: Any) -> Any:
    """Lets names stand for a table that says nothing but the columns."""
    return {"columns": value} if isinstance(value, (str, list, tuple)) else value


def as_written(table: Mapping[str, Any]) -> Any:
    """The shortest way to say an input in TOML: its column, its columns, or the whole table."""
    if table.get("image") == {}:
        table = {**table, "image": True}
    if set(table) != {"columns"}:
        return dict(table)
    columns = table["columns"]
    return columns[0] if len(columns) == 1 else columns
