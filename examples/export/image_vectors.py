#!/usr/bin/env python3
"""Writes what Pillow and transformers make of small images, for the tests of `model-runtime`'s image module.

    python image_vectors.py [--out model-runtime/tests/expected/images.json]

A photo, and three lists: files with the RGB pixels that Pillow decodes from them; the photo resized, by each of Pillow's filters; and the input that
image processors of transformers make of the photo, for several `preprocessor_config.json`.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from pathlib import Path

import transformers
from PIL import Image
from transformers.image_utils import load_image

import photos

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 24, 17
# From larger and smaller, one axis alone, and not at all.
SIZES = [(9, 7), (60, 40), (WIDTH, 5), (11, HEIGHT), (WIDTH, HEIGHT), (1, 1), (7, 50)]
PROCESSORS = [
    transformers.ViTImageProcessor(size={"height": 20, "width": 12}),
    transformers.ViTImageProcessor(size={"height": 9, "width": 9}, do_normalize=False, resample=0),
    transformers.BitImageProcessor(size={"shortest_edge": 12}, crop_size={"height": 9, "width": 11}),
    transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 15, "width": 10}),
    transformers.BitImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 11, "width": 30}),
    transformers.DeiTImageProcessor(size={"height": 16, "width": 16}, crop_size={"height": 14, "width": 14}, do_rescale=False),
    transformers.BeitImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False, resample=1),
    transformers.ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.7),
    transformers.MobileNetV2ImageProcessor(size={"shortest_edge": 13}, crop_size={"height": 10, "width": 10}),
    transformers.SiglipImageProcessor(size={"height": 10, "width": 10}, rescale_factor=1 / 127.5),
    transformers.MobileNetV1ImageProcessor(do_resize=False, crop_size={"height": 10, "width": 31}),
    transformers.PvtImageProcessor(size={"height": 8, "width": 16}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "model-runtime" / "tests" / "expected" / "images.json")
    arguments = parser.parse_args()
    photo = photos.photo("cat", WIDTH, HEIGHT)
    vectors = {
        "decoded": [decoded(name, data) for name, data in photos.encoded(WIDTH, HEIGHT)],
        "resized": [
            {"filter": int(resample)} | pixels(photo.resize(size, resample))
            for resample in Image.Resampling
            for size in SIZES
        ],
        "preprocessed": [
            {"config": processor.to_dict(), "values": text(values(processor, photo))} for processor in PROCESSORS
        ],
    }
    lines = ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for name, rows in vectors.items()
    )
    arguments.out.write_text(f'{{"photo": {json.dumps(text(photos.save(photo, "PNG")))},\n{lines}}}\n')
    print(f"wrote {arguments.out}: " + ", ".join(f"{len(rows)} {name}" for name, rows in vectors.items()))


def decoded(name: str, data: bytes) -> dict:
    return {"name": name, "image": text(data)} | pixels(load_image(Image.open(io.BytesIO(data))))


def pixels(image: Image.Image) -> dict:
    return {"width": image.width, "height": image.height, "rgb": text(image.tobytes())}


def values(processor: transformers.BaseImageProcessor, image: Image.Image) -> bytes:
    """The model's input [channels, height, width], float32, the low byte first."""
    return processor(images=image, return_tensors="np")["pixel_values"][0].astype("<f4").tobytes()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    main()
