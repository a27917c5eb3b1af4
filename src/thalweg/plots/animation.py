"""Frames as a moving picture: GIF, for anywhere, and MP4 (H.264), which is smaller and needs the package av."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageColor

from ..errors import ResourceError
from . import style

#: colours that must not change: white paper, and those that lines are told apart by
_FIXED_COLORS = [ImageColor.getrgb(name) for name in (style.WHITE, style.BLACK, style.GRAY, *style.OKABE_ITO)]
#: levels within which Pillow takes two colours of a palette for one
_MIN_COLOR_DISTANCE = 10
#: the number of the colour of a GIF through which the frame before is seen; those below it are colours
_TRANSPARENT = 127
#: seconds that a film of frames lasts, unless it has few of them or many; seconds that its last frame stays
_FILM_SECONDS, _LAST_FRAME_SECONDS = 12.0, 2.0


def seconds_per_frame(count: int) -> float:
    """How long each of `count` frames stays: 0.1 to 1.5 seconds."""
    return min(1.5, max(0.1, _FILM_SECONDS / count))


def encode_gif(frames: Sequence[Image.Image]) -> bytes:
    """An endless GIF at half the pixels, in 127 colours that suit all frames together."""
    small = [frame.resize((frame.width // 2, frame.height // 2), Image.Resampling.LANCZOS) for frame in frames]
    palette = build_palette(small, _TRANSPARENT)
    places = [np.asarray(frame.quantize(palette=palette, dither=Image.Dither.NONE)) for frame in small]
    pages = [_to_palette_image(places[0], palette)]
    # what stays as it was is left clear, which packs six times as well
    pages += [
        _to_palette_image(np.where(now == before, _TRANSPARENT, now), palette) for before, now in pairwise(places)
    ]
    each = round(1000 * seconds_per_frame(len(pages)))
    durations = [each] * (len(pages) - 1) + [max(each, round(1000 * _LAST_FRAME_SECONDS))]
    file = io.BytesIO()
    how = {"duration": durations, "loop": 0, "optimize": False, "disposal": 1, "transparency": _TRANSPARENT}
    pages[0].save(file, "GIF", save_all=True, append_images=pages[1:], **how)
    return file.getvalue()


def _to_palette_image(places_HW: np.ndarray, palette: Image.Image) -> Image.Image:
    page = Image.fromarray(places_HW.astype(np.uint8))
    page.putpalette([*palette.getpalette("RGB"), *[0] * 3 * 128][: 3 * (_TRANSPARENT + 1)])
    return page


def build_palette(frames: Sequence[Image.Image], colours: int) -> Image.Image:
    """An image whose palette suits all frames, judged by up to seven of them; white and the usual colours are in it."""
    chosen = frames[:: max(1, len(frames) // 6)]
    width, height = (max(1, side // 2) for side in frames[0].size)  # every fourth pixel has the same colours, sooner
    strip = Image.new("RGB", (width, height * len(chosen)))
    for number, frame in enumerate(chosen):
        strip.paste(frame.resize((width, height), Image.Resampling.NEAREST), (0, number * height))
    found = strip.quantize(colours - len(_FIXED_COLORS))
    entries = np.array(found.getpalette("RGB")[: 3 * (colours - len(_FIXED_COLORS))]).reshape(-1, 3)
    # Pillow looks for the nearest entry in steps of some levels: one beside a kept colour would be taken for it
    apart = np.abs(entries[:, None] - np.array(_FIXED_COLORS)).max(2).min(1) > _MIN_COLOR_DISTANCE
    found.putpalette([*np.array(_FIXED_COLORS).ravel().tolist(), *entries[apart].ravel().tolist()])
    return found


def encode_mp4(frames: Sequence[Image.Image]) -> bytes:
    """An MP4 of 10 pictures per second that any player shows. Raises ResourceError where av is not installed."""
    try:
        import av
    except ImportError as error:
        raise ResourceError(
            "Writing MP4 needs the package av, which is not installed.",
            cure="pip install 'thalweg[video]', or save .gif.",
        ) from error
    rate, file = 10, io.BytesIO()
    repeats = [max(1, round(seconds_per_frame(len(frames)) * rate))] * len(frames)
    repeats[-1] = max(repeats[-1], round(_LAST_FRAME_SECONDS * rate))
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        # its colours are kept for squares of two by two pixels
        stream.width, stream.height = frames[0].width // 2 * 2, frames[0].height // 2 * 2
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "20", "preset": "medium"}
        for frame, times in zip(frames, repeats, strict=True):
            shown = av.VideoFrame.from_image(frame.crop((0, 0, stream.width, stream.height)))
            for _ in range(times):
                shown.pts = None
                container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return file.getvalue()
