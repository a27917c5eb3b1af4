"""Frames as a moving picture: GIF, for anywhere, and MP4 (H.264), which is smaller and needs the package av."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from .errors import ResourceError

#: seconds that a film of frames lasts, unless it has few of them or many; seconds that its last frame stays
_LENGTH, _LAST = 12.0, 2.0


def seconds_per_frame(count: int) -> float:
    """How long each of `count` frames stays: 0.1 to 1.5 seconds."""
    return min(1.5, max(0.1, _LENGTH / count))


def gif(frames: Sequence[Image.Image]) -> bytes:
    """An endless GIF at half the pixels, in the 128 colours that suit all frames together."""
    small = [frame.resize((frame.width // 2, frame.height // 2), Image.Resampling.LANCZOS) for frame in frames]
    palette = common_palette(small, 128)
    pages = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in small]
    each = round(1000 * seconds_per_frame(len(pages)))
    durations = [each] * (len(pages) - 1) + [max(each, round(1000 * _LAST))]
    file = io.BytesIO()
    pages[0].save(file, "GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0, optimize=False)
    return file.getvalue()


def common_palette(frames: Sequence[Image.Image], colours: int) -> Image.Image:
    """An image whose palette suits all frames, judged by up to seven of them."""
    chosen = frames[:: max(1, len(frames) // 6)]
    strip = Image.new("RGB", (frames[0].width, frames[0].height * len(chosen)))
    for number, frame in enumerate(chosen):
        strip.paste(frame, (0, number * frame.height))
    return strip.quantize(colours)


def mp4(frames: Sequence[Image.Image]) -> bytes:
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
    repeats[-1] = max(repeats[-1], round(_LAST * rate))
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
