"""Images: encoded bytes → a model's pixels, in the graph, row by row and several rows at once.

Owns what an encoded image becomes (`Decoder`) and whether that fits an input (`decoder_for`):

    bytes → decoded → channels → cropped → resampled → scaled → the input's type

What each step does is what people do while they train: `tf.io.decode_image`, then
`tf.image.resize` without antialiasing. So a model sees the pixels that it was trained on.

- An image that has the size already is not resampled, whatever the method: its pixels are exact.
- One that cannot be decoded raises InvalidArgumentError for the batch. A JPEG that breaks off is
  one, since TensorFlow does not fill in what is missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.pixels import cropped, decoded, padded
from pipeline.runtime import tensorflow
from pipeline.signature import InputSpec

if TYPE_CHECKING:
    from pipeline.input_options import Fit, ImageOptions, Resize, Scale

HOOK_CHANNELS = 3
"""Channels of an image that a hook is given, where the job does not say."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@dataclass(frozen=True, slots=True)
class Decoder:
    """How the encoded images of one input become its pixels.

    Attributes:
        height, width: What each image is made to be, in pixels.
        channels: 1, 3 or 4.
        flat: Whether the input has no dimension for its one channel.
        dtype: The input's type.
        resize, fit, scale: As in `ImageOptions`.
    """

    height: int
    width: int
    channels: int
    flat: bool
    dtype: str
    resize: Resize
    fit: Fit
    scale: Scale

    @property
    def described(self) -> str:
        """What is done, for people: `decoded, 0..1; if not 8 x 8: stretch, bilinear`."""
        pixels = "0..255" if self.scale == "none" else self.scale
        size = f"{self.height} x {self.width}"
        return f"decoded, {pixels}; if not {size}: {self.fit}, {self.resize}"

    @property
    def output(self) -> str:
        """What comes of it, for people: `float32 (n, 8, 8, 1)`."""
        sides = [self.height, self.width] if self.flat else [self.height, self.width, self.channels]
        return f"{self.dtype} ({', '.join(map(str, ['n', *sides]))})"

    def __call__(self, encoded: Any) -> Any:
        """Decodes a batch.

        Args:
            encoded: (rows,) strings.

        Returns:
            (rows, height, width, channels), or (rows, height, width) if flat.
        """
        tf = tensorflow()
        shape = (self.height, self.width, self.channels)
        # The operations let go of the interpreter and run on TensorFlow's threads.
        at_once = 1 if tf.executing_eagerly() else len(os.sched_getaffinity(0))
        pixels = tf.map_fn(
            self._pixels,
            encoded,
            parallel_iterations=at_once,
            fn_output_signature=tf.TensorSpec(shape, self.dtype),
        )
        return pixels[..., 0] if self.flat else pixels

    def _pixels(self, encoded: Any) -> Any:
        """One image: () string → (height, width, channels)."""
        image = decoded(encoded, self.channels)
        if self.fit == "crop":
            image = cropped(image, self.height, self.width)
        return self._cast(self._scaled(self._resampled(image)))

    def _resampled(self, image: Any) -> Any:
        """(h, w, c) uint8 → (height, width, c) float32."""
        tf = tensorflow()
        size = (self.height, self.width)

        def resampled() -> Any:
            if self.fit == "pad":
                return padded(image, self.height, self.width, self.resize)
            return tf.cast(tf.image.resize(image, size, method=self.resize), tf.float32)

        has_size = tf.reduce_all(tf.equal(tf.shape(image)[:2], size))
        pixels = tf.cond(has_size, lambda: tf.cast(image, tf.float32), resampled)
        return tf.ensure_shape(pixels, (*size, self.channels))

    def _scaled(self, pixels: Any) -> Any:
        if self.scale == "0..1":
            return pixels / 255.0
        return pixels / 127.5 - 1.0 if self.scale == "-1..1" else pixels

    def _cast(self, pixels: Any) -> Any:
        tf = tensorflow()
        if self.dtype in _INTEGERS:  # some methods overshoot at edges
            pixels = tf.clip_by_value(tf.round(pixels), 0.0, 255.0)
        return tf.cast(pixels, self.dtype)


def sample() -> bytes:
    """An image as small as can be, for where there is none."""
    tf = tensorflow()
    return bytes(tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8)).numpy())


def hook_spec(name: str, options: ImageOptions, dtype: str | None) -> InputSpec:
    """What a hook is given of an image: its decoded pixels.

    Raises:
        ConfigError: The job does not say how big.
    """
    if options.size is None:
        raise ConfigError(
            f"how big the images of input {name!r} are to be is not said",
            received=f"[inputs.{name}] with image, for a preprocess hook",
            hint="say it in the TOML: image = {size = [224, 224]}, height and width in pixels",
        )
    return InputSpec(name, (*options.size, options.channels or HOOK_CHANNELS), dtype or "float32")


def decoder_for(spec: InputSpec, options: ImageOptions) -> Decoder:
    """The decoder for an input.

    Args:
        spec: The input, as the model or the hook takes it.
        options: What the job says of its images.

    Raises:
        ConfigError: Images cannot feed the input, or the job does not say how.
    """
    _refuse_other_types(spec, options)
    if len(spec.shape) not in {2, 3}:
        raise ConfigError(
            f"images cannot feed the input {spec.name!r}",
            expected="(n, height, width, channels), or (n, height, width) for gray",
            received=str(spec),
            hint=f"leave image out of [inputs.{spec.name}], or bring the pixels into shape in a "
            "preprocess hook",
        )
    flat = len(spec.shape) == 2
    (height, width), channels = _size(spec, options), _channels(spec, options)
    return Decoder(
        height, width, channels, flat, spec.dtype, options.resize, options.fit, options.scale
    )


def sized(spec: InputSpec, decoder: Decoder) -> InputSpec:
    """The input with the size that its images are made to have."""
    shape = (decoder.height, decoder.width, decoder.channels)
    return InputSpec(spec.name, shape[:2] if decoder.flat else shape, spec.dtype, spec.declared)


def _refuse_other_types(spec: InputSpec, options: ImageOptions) -> None:
    if spec.dtype == "string":
        raise ConfigError(
            f"the model decodes the images of input {spec.name!r} itself",
            received=str(spec),
            hint=f"leave image out of [inputs.{spec.name}]: the bytes are fed as they are",
        )
    if spec.dtype not in _FLOATS + _INTEGERS:
        raise ConfigError(
            f"images cannot feed the input {spec.name!r}",
            expected="a type that holds 0 to 255: uint8, a wider integer, or a float",
            received=str(spec),
        )
    if options.scale != "none" and spec.dtype in _INTEGERS:
        raise ConfigError(
            f"pixels of {options.scale} cannot be told apart in the input {spec.name!r}",
            expected="a float type",
            received=str(spec),
            hint='leave scale out: pixels stay 0 to 255, as scale = "none" has them',
        )


def _size(spec: InputSpec, options: ImageOptions) -> tuple[int, int]:
    height, width = spec.shape[:2]
    if options.size is None:
        if height is not None and width is not None:
            return height, width
        raise ConfigError(
            f"how big the images of input {spec.name!r} are to be is not said",
            expected="a size, since the model takes any",
            received=str(spec),
            hint="say it in the TOML: image = {size = [224, 224]}, height and width in pixels",
        )
    if height not in {None, options.size[0]} or width not in {None, options.size[1]}:
        raise ConfigError(
            f"the size of the images is not that of the input {spec.name!r}",
            expected=str(spec),
            received=f"size = {list(options.size)}",
            hint="leave size out: the model says it",
        )
    return options.size


def _channels(spec: InputSpec, options: ImageOptions) -> int:
    channels = spec.shape[2] if len(spec.shape) == 3 else 1
    if channels is None:
        if options.channels is not None:
            return options.channels
        raise ConfigError(
            f"how many channels the images of input {spec.name!r} are to have is not said",
            expected="channels, since the model takes any number",
            received=str(spec),
            hint="say it in the TOML: image = {channels = 3}; 1 is gray, 4 has alpha",
        )
    if options.channels not in {None, channels}:
        raise ConfigError(
            f"the channels of the images are not those of the input {spec.name!r}",
            expected=str(spec),
            received=f"channels = {options.channels}",
            hint="leave channels out: the model says it",
        )
    if channels not in {1, 3, 4}:
        raise ConfigError(
            f"images cannot feed the input {spec.name!r}",
            expected="1, 3 or 4 channels, in the last dimension",
            received=str(spec),
            hint="transpose the pixels in a preprocess hook if the model has channels first",
        )
    return channels
