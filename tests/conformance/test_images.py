"""Encoded images on their way into a model: formats, channels, sizes, scales, faults."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import ConfigError
from pipeline.feed import Feed
from pipeline.images import Decoder, decoder_for, hook_spec, sized
from pipeline.input_options import ImageOptions
from pipeline.reasons import reason_of
from pipeline.signature import InputSpec, Signature
from tests.conformance.encoded import bmp, gif, webp
from tests.golden_texts import assert_golden

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)
WITH_ALPHA = RNG.integers(0, 256, (5, 7, 4), np.uint8)
GRAY = RNG.integers(0, 256, (5, 7, 1), np.uint8)
FEW_COLOURS = (COLOUR // 86 * 100).astype(np.uint8)


def png(pixels: Any) -> bytes:
    return bytes(tf.io.encode_png(pixels).numpy())


def jpeg(pixels: Any) -> bytes:
    return bytes(tf.io.encode_jpeg(pixels, quality=95).numpy())


def decoder(
    height: int = 5, width: int = 7, channels: int = 3, dtype: str = "float32", **said: Any
) -> Decoder:
    return decoder_for(InputSpec("x", (height, width, channels), dtype), ImageOptions(**said))


def decoded(images: list[bytes], by: Decoder) -> Any:
    feed = Feed(
        (InputSpec("x", (), "string"),),
        Signature(
            (InputSpec("x", (by.height, by.width, by.channels), by.dtype),), "tensor", (), False
        ),
        decoders={"x": by},
    )
    return feed.element(feed.tensors([np.array(images, object)])).numpy()


def luma(pixels: Any) -> Any:
    return pixels[..., :3].astype(float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        (png(COLOUR), COLOUR),
        (png(GRAY), np.repeat(GRAY, 3, axis=2)),
        (png(WITH_ALPHA), WITH_ALPHA[..., :3]),
        (bmp(COLOUR), COLOUR),
        (bmp(WITH_ALPHA), WITH_ALPHA[..., :3]),
        (gif(FEW_COLOURS), FEW_COLOURS),
        (gif(FEW_COLOURS, FEW_COLOURS[::-1]), FEW_COLOURS),
        (webp(5, 7, (10, 20, 30, 255)), np.full((5, 7, 3), (10, 20, 30))),
    ],
    ids=[
        "png",
        "gray png",
        "png with alpha",
        "bmp",
        "bmp with alpha",
        "gif",
        "animation",
        "webp",
    ],
)
def test_each_format_becomes_its_pixels_exactly(image: bytes, pixels: Any) -> None:
    np.testing.assert_array_equal(decoded([image], decoder())[0], pixels)


def test_a_jpeg_is_what_tensorflow_decodes() -> None:
    image = jpeg(COLOUR)
    expected = tf.io.decode_jpeg(image, channels=3)
    np.testing.assert_array_equal(decoded([image], decoder())[0], expected)
    assert np.abs(decoded([jpeg(np.full((5, 7, 3), 77, np.uint8))], decoder()) - 77).max() <= 1


@pytest.mark.parametrize(
    "image",
    [png(COLOUR), jpeg(COLOUR), bmp(COLOUR), bmp(WITH_ALPHA), png(WITH_ALPHA), gif(FEW_COLOURS)],
    ids=["png", "jpeg", "bmp", "bmp with alpha", "png with alpha", "gif"],
)
def test_colour_becomes_gray_by_luma(image: bytes) -> None:
    colour = decoded([image], decoder())[0]
    gray = decoded([image], decoder(channels=1))[0]
    assert gray.shape == (5, 7, 1)
    # Each decoder rounds in its own way; a jpeg's gray is stored, its colours follow from it.
    np.testing.assert_allclose(
        gray[..., 0], luma(colour), atol=3 if image[:2] == b"\xff\xd8" else 1.01
    )


@pytest.mark.parametrize("image", [png(GRAY), jpeg(GRAY)], ids=["png", "jpeg"])
def test_gray_stays_gray(image: bytes) -> None:
    expected = tf.io.decode_image(image)
    np.testing.assert_array_equal(decoded([image], decoder(channels=1))[0], expected)


def test_an_input_without_a_dimension_for_channels_takes_gray() -> None:
    flat = decoder_for(InputSpec("x", (5, 7), "float32"), ImageOptions())
    np.testing.assert_array_equal(decoded([png(GRAY)], flat)[0], GRAY[..., 0])


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        (png(WITH_ALPHA), WITH_ALPHA),
        (bmp(WITH_ALPHA), WITH_ALPHA),
        (png(COLOUR), np.dstack([COLOUR, np.full((5, 7), 255)])),
        (bmp(COLOUR), np.dstack([COLOUR, np.full((5, 7), 255)])),
        (gif(FEW_COLOURS), np.dstack([FEW_COLOURS, np.full((5, 7), 255)])),
        (webp(5, 7, (10, 20, 30, 40)), np.full((5, 7, 4), (10, 20, 30, 40))),
    ],
    ids=["png with alpha", "bmp with alpha", "png", "bmp", "gif", "webp with alpha"],
)
def test_alpha_is_kept_where_the_model_takes_it_and_is_full_where_there_is_none(
    image: bytes, pixels: Any
) -> None:
    np.testing.assert_array_equal(decoded([image], decoder(channels=4))[0], pixels)


def test_a_jpeg_has_full_alpha() -> None:
    np.testing.assert_array_equal(decoded([jpeg(COLOUR)], decoder(channels=4))[0, ..., 3], 255)


def test_of_sixteen_bits_the_upper_eight_are_taken() -> None:
    deep = RNG.integers(0, 65536, (5, 7, 1)).astype(np.uint16)
    np.testing.assert_array_equal(decoded([png(deep)], decoder(channels=1))[0], deep >> 8)


@pytest.mark.parametrize(
    "method", ["bilinear", "nearest", "bicubic", "area", "lanczos3", "gaussian"]
)
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_an_image_of_the_right_size_is_not_resampled(method: str, fit: str) -> None:
    image = decoded([png(COLOUR)], decoder(resize=method, fit=fit))[0]
    np.testing.assert_array_equal(image, COLOUR)


@pytest.mark.parametrize(
    "method", ["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian"]
)
def test_stretching_is_what_tf_image_resize_does(method: str) -> None:
    expected = tf.image.resize(COLOUR, (9, 4), method=method)
    image = decoded([png(COLOUR)], decoder(9, 4, resize=method))[0]
    np.testing.assert_allclose(image, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (11, 9), (10, 14)])
def test_padding_is_what_resize_with_pad_does(size: tuple[int, int]) -> None:
    expected = tf.image.resize_with_pad(COLOUR, *size)
    image = decoded([png(COLOUR)], decoder(*size, fit="pad"))[0]
    np.testing.assert_allclose(image, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "part", "corner"),
    [((3, 12), (3, 4), (0, 3)), ((20, 6), (4, 6), (7, 0)), ((1, 1000), (1, 1), (0, 499))],
)
def test_padding_keeps_the_image_whole_and_in_the_middle(
    size: tuple[int, int], part: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = decoded([png(COLOUR)], decoder(*size, fit="pad"))[0]
    expected = np.zeros((*size, 3))
    top, left = corner
    expected[top : top + part[0], left : left + part[1]] = tf.image.resize(COLOUR, part)
    np.testing.assert_allclose(image, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (3, 12), (20, 6), (5, 5), (1, 7)])
def test_cropping_is_what_keras_smart_resize_does(size: tuple[int, int]) -> None:
    expected = keras.preprocessing.image.smart_resize(COLOUR.astype("float32"), size)
    image = decoded([png(COLOUR)], decoder(*size, fit="crop"))[0]
    np.testing.assert_allclose(image, expected, atol=1e-3)


def test_images_of_many_sizes_share_a_batch_in_order() -> None:
    sides = range(1, 40)
    images = [png(np.full((side, side + 1, 3), side, np.uint8)) for side in sides]
    batch = decoded(images, decoder(4, 4))
    np.testing.assert_allclose(batch[:, 0, 0, 0], list(sides))


def test_pixels_are_scaled_as_asked() -> None:
    pixels = decoded([png(COLOUR)], decoder())[0]
    np.testing.assert_allclose(decoded([png(COLOUR)], decoder(scale="0..1"))[0], pixels / 255)
    signed = decoded([png(COLOUR)], decoder(scale="-1..1"))[0]
    np.testing.assert_allclose(signed, pixels / 127.5 - 1, atol=1e-6)


def test_a_model_of_whole_numbers_gets_pixels_rounded_and_within_their_range() -> None:
    stripes = np.zeros((6, 6, 3), np.uint8)
    stripes[:, ::2] = 255
    smooth = tf.image.resize(stripes, (9, 9), method="bicubic").numpy()
    assert smooth.min() < 0
    assert smooth.max() > 255
    image = decoded([png(stripes)], decoder(9, 9, dtype="uint8", resize="bicubic"))[0]
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.clip(np.round(smooth), 0, 255))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_pixels_have_the_type_of_the_input(dtype: str) -> None:
    image = decoded([png(COLOUR)], decoder(dtype=dtype))[0]
    assert image.dtype.name == dtype
    np.testing.assert_array_equal(image.astype("float64"), COLOUR)


def _broken() -> dict[str, bytes]:
    whole = jpeg(RNG.integers(0, 256, (64, 64, 3), np.uint8))
    return {
        "no image": b"this is no image",
        "empty": b"",
        "a png that breaks off": png(COLOUR)[:-30],
        "a jpeg that breaks off": whole[: len(whole) // 2],
        "a png that is damaged": png(COLOUR)[:50] + b"\0\0\0\0" + png(COLOUR)[54:],
    }


@pytest.mark.parametrize("fault", list(_broken()))
def test_an_image_that_cannot_be_decoded_raises_for_its_batch_and_for_no_other(fault: str) -> None:
    good = png(COLOUR)
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        decoded([good, _broken()[fault], good], decoder())
    assert reason_of(raised.value)
    assert "node" not in reason_of(raised.value)
    np.testing.assert_array_equal(decoded([good], decoder())[0], COLOUR)


def test_what_is_wrong_with_bytes_that_are_no_image_is_said_in_a_line() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        decoded([b"hello"], decoder())
    assert reason_of(raised.value).startswith("Unknown image file format. One of JPEG")


def test_no_rows_are_no_images() -> None:
    assert decoded([], decoder()).shape == (0, 5, 7, 3)


def test_several_images_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A sleep in place of a decoder: it takes no processor, so what else runs does not matter.
    seen: list[tuple[float, float]] = []

    def slow(encoded: Any) -> Any:
        begun = time.monotonic()
        time.sleep(0.05)
        seen.append((begun, time.monotonic()))
        return COLOUR

    def fake(encoded: Any, channels: int) -> Any:
        image = tf.numpy_function(slow, [encoded], tf.uint8, stateful=False)
        image.set_shape((None, None, channels))
        return image

    monkeypatch.setattr("pipeline.images.decoded", fake)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    decoded([b"x"] * 8, decoder())
    overlaps = sum(a[1] > b[0] and b[1] > a[0] for a in seen for b in seen if a is not b)
    assert len(seen) == 8
    assert overlaps > 0


def test_a_model_that_takes_any_size_is_fed_the_size_that_is_said() -> None:
    spec = InputSpec("x", (None, None, 3), "float32")
    by = decoder_for(spec, ImageOptions(size=(2, 3)))
    assert sized(spec, by).shape == (2, 3, 3)
    assert decoded([png(COLOUR)], by).shape == (1, 2, 3, 3)


def test_a_hook_is_given_colour_of_the_size_that_is_said() -> None:
    assert hook_spec("x", ImageOptions(size=(2, 3)), None) == InputSpec("x", (2, 3, 3), "float32")
    gray = hook_spec("x", ImageOptions(size=(2, 3), channels=1), "uint8")
    assert gray == InputSpec("x", (2, 3, 1), "uint8")


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "said"),
    [
        ("image_for_numbers", (4,), "float32", {}),
        ("image_for_a_string", (), "string", {}),
        ("image_for_bools", (5, 7, 3), "bool", {}),
        ("image_channels_first", (3, 224, 224), "float32", {}),
        ("image_without_a_size", (None, None, 3), "float32", {}),
        ("image_of_another_size", (224, 224, 3), "float32", {"size": (299, 299)}),
        ("image_without_channels", (224, 224, None), "float32", {}),
        ("image_of_other_channels", (28, 28, 1), "float32", {"channels": 3}),
        ("image_scaled_for_whole_numbers", (28, 28, 1), "uint8", {"scale": "0..1"}),
    ],
)
def test_what_images_cannot_feed_is_said(
    name: str, shape: tuple[int | None, ...], dtype: str, said: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as raised:
        decoder_for(InputSpec("photo", shape, dtype), ImageOptions(**said))
    assert_golden(f"feed/{name}", str(raised.value))


def test_a_hook_needs_a_size() -> None:
    with pytest.raises(ConfigError) as raised:
        hook_spec("photo", ImageOptions(), None)
    assert_golden("feed/image_for_a_hook_without_a_size", str(raised.value))
