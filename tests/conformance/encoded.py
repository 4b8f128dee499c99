"""Encoded images made by hand, where TensorFlow cannot write what it reads."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def bmp(pixels: Pixels) -> bytes:
    """(h, w, 3 or 4) → a BMP without compression, its rows from the bottom up."""
    height, width, channels = pixels.shape
    order = [2, 1, 0] if channels == 3 else [2, 1, 0, 3]
    rows = pixels[::-1, :, order].reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8 * channels, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(padded), 0, 0, 54) + info + padded


def gif(*frames: Pixels) -> bytes:
    """(h, w, 3) each, of at most 128 colours in all → a GIF, an animation if there are several.

    Its LZW is never let grow: a code that clears the table comes before it would.
    """
    height, width, _ = frames[0].shape
    flat = np.concatenate([frame.reshape(-1, 3) for frame in frames])
    colours, places = np.unique(flat, axis=0, return_inverse=True)
    table = np.zeros((128, 3), np.uint8)
    table[: len(colours)] = colours
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF6, 0, 0) + table.tobytes()
    for indices in np.split(places.ravel(), len(frames)):
        out += b"\x21\xf9\x04\x04\x0a\x00\x00\x00"  # shown for a tenth of a second, left there
        out += b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x07"
        bits: list[int] = []
        for start in range(0, len(indices), 100):
            codes = [128, *map(int, indices[start : start + 100])]
            bits += [code >> i & 1 for code in codes for i in range(8)]
        bits += [129 >> i & 1 for i in range(8)]
        data = np.packbits(bits, bitorder="little").tobytes()
        for start in range(0, len(data), 255):
            block = data[start : start + 255]
            out += bytes([len(block)]) + block
        out += b"\x00"
    return out + b";"


def webp(height: int, width: int, colour: tuple[int, int, int, int]) -> bytes:
    """A lossless WebP of one colour: each of its Huffman codes has one symbol, of no bits."""
    red, green, blue, alpha = colour
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend(value >> i & 1 for i in range(count))

    put(width - 1, 14)
    put(height - 1, 14)
    put(alpha != 255, 1)
    put(0, 3)  # version
    put(0, 3)  # no transform, no colour cache, no groups of codes
    for symbol in (green, red, blue, alpha):
        put(0b101, 3)  # a simple code of one symbol, in 8 bits
        put(symbol, 8)
    put(0b0001, 4)  # for distances: likewise, 0 in one bit
    data = b"\x2f" + np.packbits(bits, bitorder="little").tobytes()
    data += b"\x00" * (len(data) % 2)
    chunk = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk
