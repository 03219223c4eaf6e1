"""Images for tests: photographs that the package scikit-image ships, in all the ways that JPEG, PNG and WebP can keep them.

The photographs: a cat (S. van der Walt), a cup of coffee (R. Michetti), a rocket (SpaceX); all CC0. The files are made here and not
kept, since encoders change; what Pillow decodes from them is asked of Pillow at the same time.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from packages import files_in

FILES = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}
# Adam7: where each pass of an interlaced PNG starts, and its steps.
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
ORIENTATION = 0x0112


def photo(name: str, width: int, height: int) -> Image.Image:
    """One of the photographs in RGB, at this size."""
    file = FILES[name]
    with Image.open(files_in("skimage", "data", file) / file) as image:
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    # Else its colour profile would be written to every file.
    small.info.clear()
    return small


def encoded(width: int, height: int) -> Iterator[tuple[str, bytes]]:
    """Photographs of this size, each with a name that says how it is kept."""
    cat, coffee, rocket = (photo(name, width, height) for name in FILES)
    grey = cat.convert("L")
    see_through = coffee.copy()
    see_through.putalpha(grey)  # what is below transparent pixels counts, too
    for name, subsampling in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
        yield f"JPEG {name}", save(cat, "JPEG", quality=80, subsampling=subsampling)
        yield f"JPEG {name}, progressive", save(coffee, "JPEG", quality=70, subsampling=subsampling, progressive=True)
    yield "JPEG, coarse", save(rocket, "JPEG", quality=10)
    yield "JPEG, fine", save(rocket, "JPEG", quality=98)
    yield "JPEG, restart markers", save(coffee, "JPEG", restart_marker_blocks=3)
    yield "JPEG, optimised tables", save(coffee, "JPEG", optimize=True)
    yield "JPEG, greyscale", save(grey, "JPEG")
    yield "JPEG, CMYK", save(coffee.convert("CMYK"), "JPEG")
    for orientation in range(1, 9):
        yield f"JPEG, orientation {orientation}", save(cat, "JPEG", exif=turned(orientation))
    yield "PNG", save(cat, "PNG")
    yield "PNG, alpha", save(see_through, "PNG")
    yield "PNG, greyscale", save(grey, "PNG")
    yield "PNG, greyscale and alpha", save(see_through.convert("LA"), "PNG")
    yield "PNG, palette", save(coffee.quantize(64), "PNG")
    yield "PNG, palette of 4", save(coffee.quantize(4), "PNG")
    yield "PNG, palette with transparency", save(coffee.quantize(16), "PNG", transparency=3)
    yield "PNG, transparent colour", save(cat, "PNG", transparency=(0, 0, 0))
    yield "PNG, 1 bit", save(grey.convert("1"), "PNG")
    yield "PNG, 16 bits, dark", save(Image.fromarray(np.asarray(grey, dtype=np.uint16) * 2), "PNG")
    yield "PNG, 16 bits", save(Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257), "PNG")
    yield "PNG, orientation", save(rocket, "PNG", exif=turned(6))
    yield "PNG, animated", save(cat, "PNG", save_all=True, append_images=[coffee, rocket], duration=100)
    samples = np.asarray(cat, dtype=np.uint16)
    yield "PNG, RGB of 16 bits", png(samples * 256 + samples[::-1], 16)
    yield "PNG, RGBA of 16 bits", png(np.dstack([samples * 257, samples[..., :1] * 256]), 16)
    yield "PNG, greyscale and alpha of 16 bits", png(samples[..., :2] * 256 + 128, 16)
    yield "PNG, interlaced", png(np.asarray(cat), 8, interlaced=True)
    yield "PNG, 2 bits", png(np.asarray(grey)[..., None] >> 6, 2)
    yield "PNG, 4 bits", png(np.asarray(grey)[..., None] >> 4, 4)
    yield "WebP", save(cat, "WEBP", quality=75)
    yield "WebP, fine", save(coffee, "WEBP", quality=95)
    yield "WebP, lossless", save(rocket, "WEBP", lossless=True)
    yield "WebP, alpha", save(see_through, "WEBP", quality=80)
    yield "WebP, lossless alpha", save(see_through, "WEBP", lossless=True, exact=True)
    yield "WebP, orientation", save(cat, "WEBP", exif=turned(8))
    yield "WebP, animated", save(coffee, "WEBP", save_all=True, append_images=[cat], duration=100)


def shapes() -> Iterator[tuple[str, bytes]]:
    """Images of unusual sizes. None is 1 or 3 pixels high: transformers takes such for images with the channels first."""
    for width, height in ((2, 2), (1, 2), (9, 5), (37, 23), (640, 12), (12, 640), (5000, 4)):
        yield f"JPEG of {width} x {height}", save(photo("cat", width, height), "JPEG", quality=90)
        yield f"PNG of {width} x {height}", save(photo("coffee", width, height), "PNG")
    for width, height in ((2, 2), (37, 23)):
        yield f"WebP of {width} x {height}", save(photo("rocket", width, height), "WEBP")


def save(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def png(samples: np.ndarray, bits: int, interlaced: bool = False) -> bytes:
    """A PNG of a kind that Pillow reads but does not write; samples [height, width, channels]."""
    height, width, channels = samples.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [samples[top::down, left::right] for top, left, down, right in PASSES] if interlaced else [samples]
    lines = b"".join(b"\0" + packed(row, bits) for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def packed(row: np.ndarray, bits: int) -> bytes:
    """One line of samples, the first in the highest bits."""
    if bits >= 8:
        return row.astype(">u2" if bits == 16 else np.uint8).tobytes()
    each = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(each).tobytes()
