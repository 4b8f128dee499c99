"""One image in the graph: from its bytes to pixels, and to the proportions that are wanted.

- PNG, JPEG, GIF, BMP, WebP, JPEG XL, told apart by their first bytes; of an animation the first
  frame. The orientation in a photograph's EXIF data is not heeded: TensorFlow does not.
- Gray becomes colour by repetition, colour gray by the weights of luma, alpha is dropped and not
  blended, and is 255 where there is none.
- 16 bits a channel become 8, the upper ones.

What is done to sizes is done in whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.runtime import tensorflow

if TYPE_CHECKING:
    from pipeline.input_options import Resize

# decode_image converts most formats to most numbers of channels itself, and exactly as in
# training; these are the beginnings of those that it does. The others are converted here.
_CONVERTED = {1: (b"\x89PNG", b"\xff\xd8"), 4: (b"\x89PNG", b"RIFF")}
_NOT_CONVERTED = {3: (b"BM",)}


def decoded(encoded: Any, channels: int) -> Any:
    """() string → (h, w, channels) uint8."""
    tf = tensorflow()

    def decode(wanted: int) -> Any:
        image = tf.io.decode_image(encoded, channels=wanted, expand_animations=False)
        image.set_shape((None, None, wanted or None))
        return image

    beginnings = _CONVERTED.get(channels) or _NOT_CONVERTED[channels]
    begins = [tf.equal(tf.strings.substr(encoded, 0, len(b)), b) for b in beginnings]
    converted = tf.reduce_any(begins)
    if channels in _NOT_CONVERTED:
        converted = tf.logical_not(converted)
    return tf.cond(converted, lambda: decode(channels), lambda: _with_channels(decode(0), channels))


def _with_channels(image: Any, channels: int) -> Any:
    """(h, w, 1 to 4) uint8 → (h, w, channels): 2 and 4 are 1 and 3 with alpha."""
    tf = tensorflow()
    stored = tf.shape(image)[2]
    is_gray, has_alpha = stored <= 2, tf.equal(stored % 2, 0)

    def gray() -> Any:
        return _shaped(image[..., :1], 1)

    def colour() -> Any:
        return _shaped(image[..., :3], 3)

    if channels == 1:
        return tf.cond(is_gray, gray, lambda: tf.image.rgb_to_grayscale(colour()))
    rgb = tf.cond(is_gray, lambda: tf.image.grayscale_to_rgb(gray()), colour)
    if channels == 3:
        return rgb
    opaque = tf.fill(tf.concat([tf.shape(image)[:2], [1]], 0), tf.constant(255, tf.uint8))
    alpha = tf.cond(has_alpha, lambda: image[..., -1:], lambda: opaque)
    return _shaped(tf.concat([rgb, alpha], axis=2), 4)


def _shaped(image: Any, channels: int) -> Any:
    return tensorflow().ensure_shape(image, (None, None, channels))


def cropped(image: Any, height: int, width: int) -> Any:
    """The biggest part of an image, in its middle, that has the proportions of the size."""
    tf = tensorflow()
    h, w = _sides(image)
    part_h = tf.maximum(tf.minimum(h, w * height // width), 1)
    part_w = tf.maximum(tf.minimum(w, h * width // height), 1)
    top, left = (h - part_h) // 2, (w - part_w) // 2
    return image[top : top + part_h, left : left + part_w]


def padded(image: Any, height: int, width: int, method: Resize) -> Any:
    """The whole image in the middle of black, as `tf.image.resize_with_pad` means it.

    In whole numbers: its floats may make a side one pixel short, in a graph other than outside.
    """
    tf = tensorflow()
    h, w = _sides(image)
    part_h = tf.minimum(tf.maximum(h * width // w, 1), height)
    part_w = tf.minimum(tf.maximum(w * height // h, 1), width)
    top = tf.maximum((height * w - h * width) // (2 * w), 0)
    left = tf.maximum((width * h - w * height) // (2 * h), 0)
    part = tf.image.resize(image, tf.cast([part_h, part_w], tf.int32), method=method)
    around = [[top, height - part_h - top], [left, width - part_w - left], [0, 0]]
    return tf.pad(tf.cast(part, tf.float32), around)


def _sides(image: Any) -> tuple[Any, Any]:
    """Height and width, wide enough to be multiplied."""
    tf = tensorflow()
    shape = tf.shape(image, out_type=tf.int64)
    return shape[0], shape[1]
