"""Draw the pictures and the video that come with the package, with fonts and seeds that training never saw.

python training/make_samples.py src/loqal/assets
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import av
from PIL import Image

import drawing

FPS, FRAMES = 8, 16
SEEDS = {"receipt": 4, "shapes": 11, "chart": 7, "motion": 7}


def write_video(path: Path, picture: drawing.Picture) -> None:
    """An MP4 file of the frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=FPS, options={"crf": "10"})
        stream.height, stream.width = picture.frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in picture.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    # Draws without noise, which would make the files large.
    seeds = {name: random.Random(f"{name} {number}") for name, number in SEEDS.items()}
    lines = [
        ("Corner Shop", ""),
        ("2 x Milk", "1.20"),
        ("1 x Bread", "2.50"),
        ("3 x Apples", "0.80"),
        ("Total", "7.30"),
    ]
    shapes = [("red", "circle")] * 3 + [("blue", "star")] * 2 + [("green", "square"), ("yellow", "triangle")]
    pictures = {
        "receipt": drawing.page(seeds["receipt"], lines, True),
        "shapes": drawing.scene(seeds["shapes"], shapes),
        "chart": drawing.chart(seeds["chart"], ["Anna", "Ben", "Zoe"], [0.4, 0.9, 0.6], True),
    }
    for name, picture in pictures.items():
        Image.fromarray(picture.frames[0]).save(folder / f"{name}.png", optimize=True)
    write_video(folder / "motion.mp4", drawing.video(seeds["motion"], "right", "circle", "red", FRAMES, every=5))


if __name__ == "__main__":
    main()
