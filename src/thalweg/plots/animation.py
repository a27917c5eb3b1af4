"""Encode frames as an animation: GIF, which plays everywhere, or MP4 (H.264), which is smaller and needs PyAV.

H W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageColor

from ..errors import ResourceError
from . import style

#: every palette contains these exactly: the background and the colors of lines
_FIXED_COLORS = [ImageColor.getrgb(name) for name in (style.WHITE, style.BLACK, style.GRAY, *style.OKABE_ITO)]
#: Pillow may confuse palette colors that differ by up to this many levels
_MIN_COLOR_DISTANCE = 10
#: target duration of all frames together
_FILM_SECONDS = 12.0
_FRAMES_PER_SECOND = 10


@dataclass(frozen=True)
class Film:
    """How frames become an animation.

    Attributes:
        halve: Whether a GIF is half as wide and high as its frames, which smooths the lines of plots.
        frame_seconds: Duration of a frame; None: by their number.
        last_seconds: Least duration of the last frame.
        colors: Colors of a GIF; one more is transparent.
        has_lines: Whether the colors of plots must be exact.
    """

    halve: bool = True
    frame_seconds: float | None = None
    last_seconds: float = 2.0
    colors: int = 127
    has_lines: bool = True


#: drawn frames, the last of which is the result
PLOTS = Film()
#: images that move without end
LOOP = Film(halve=False, frame_seconds=0.1, last_seconds=0.0, colors=255, has_lines=False)


def seconds_per_frame(count: int) -> float:
    """Return the duration of each of `count` frames, from 0.1 to 1.5 seconds."""
    return min(1.5, max(0.1, _FILM_SECONDS / count))


def encode_gif(frames: Sequence[Image.Image], film: Film = PLOTS) -> bytes:
    """Encode an endless GIF, with one palette for all frames."""
    small = list(frames)
    if film.halve:
        small = [frame.resize((frame.width // 2, frame.height // 2), Image.Resampling.LANCZOS) for frame in frames]
    transparent = film.colors  # the index after the last color
    palette = build_palette(small, film.colors, film.has_lines)
    indices = [np.asarray(frame.quantize(palette=palette, dither=Image.Dither.NONE)) for frame in small]
    layers = [_to_palette_image(indices[0], palette, transparent)]
    for previous_HW, current_HW in pairwise(indices):
        # transparent pixels where nothing changed compress six times as well
        changes_HW = np.where(current_HW == previous_HW, transparent, current_HW)
        layers.append(_to_palette_image(changes_HW, palette, transparent))
    milliseconds = round(1000 * (film.frame_seconds or seconds_per_frame(len(layers))))
    durations = [milliseconds] * len(layers)
    durations[-1] = max(milliseconds, round(1000 * film.last_seconds))
    file = io.BytesIO()
    layers[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=layers[1:],
        duration=durations,
        loop=0,
        optimize=False,
        disposal=1,
        transparency=transparent,
    )
    return file.getvalue()


def _to_palette_image(indices_HW: np.ndarray, palette: Image.Image, transparent: int) -> Image.Image:
    image = Image.fromarray(indices_HW.astype(np.uint8))
    colors = [*_palette_colors(palette), *[0] * 3 * (transparent + 1)]
    image.putpalette(colors[: 3 * (transparent + 1)])
    return image


def _palette_colors(image: Image.Image) -> list[int]:
    """Return red, green and blue of every color in an image's palette."""
    return image.getpalette("RGB") or []


def build_palette(frames: Sequence[Image.Image], colors: int, has_lines: bool = True) -> Image.Image:
    """Return an image whose palette of at most `colors` colors fits all frames.

    With `has_lines` it contains the plots' own colors. Up to seven of the frames are sampled.
    """
    sample = frames[:: max(1, len(frames) // 6)]
    # a quarter of the pixels has nearly the same colors and is faster
    width = max(1, frames[0].width // 2)
    height = max(1, frames[0].height // 2)
    strip = Image.new("RGB", (width, height * len(sample)))
    for index, frame in enumerate(sample):
        strip.paste(frame.resize((width, height), Image.Resampling.NEAREST), (0, index * height))
    if not has_lines:
        return strip.quantize(colors)
    free = colors - len(_FIXED_COLORS)
    palette = strip.quantize(free)
    candidates_N3 = np.array(_palette_colors(palette)[: 3 * free]).reshape(-1, 3)
    fixed_N3 = np.array(_FIXED_COLORS)
    # Pillow searches the nearest color coarsely: a color close to a fixed one would replace it
    distance_N = np.abs(candidates_N3[:, None] - fixed_N3).max(2).min(1)
    distinct_N3 = candidates_N3[distance_N > _MIN_COLOR_DISTANCE]
    palette.putpalette([*fixed_N3.ravel().tolist(), *distinct_N3.ravel().tolist()])
    return palette


def encode_mp4(frames: Sequence[Image.Image], film: Film = PLOTS) -> bytes:
    """Encode an MP4 with 10 frames per second that plays everywhere; raise ResourceError if PyAV is not installed."""
    try:
        import av
    except ImportError as error:
        raise ResourceError(
            "MP4: the package av is not installed; expected PyAV 14 or newer.",
            cure="Run pip install 'thalweg[video]', or save .gif.",
            value="av",
        ) from error
    seconds = film.frame_seconds or seconds_per_frame(len(frames))
    repeats = [max(1, round(seconds * _FRAMES_PER_SECOND))] * len(frames)
    repeats[-1] = max(repeats[-1], round(film.last_seconds * _FRAMES_PER_SECOND))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:  # into memory
        stream = container.add_stream("libx264", rate=_FRAMES_PER_SECOND)
        # yuv420p stores color for squares of 2 x 2 pixels, so both sides must be even
        stream.width = frames[0].width // 2 * 2
        stream.height = frames[0].height // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "medium"}
        for frame, count in zip(frames, repeats, strict=True):
            video_frame = av.VideoFrame.from_image(frame.crop((0, 0, stream.width, stream.height)))
            for _ in range(count):
                video_frame.pts = None
                container.mux(stream.encode(video_frame))
        container.mux(stream.encode())
    return file.getvalue()
