"""The page of the demo: clips, curves and a table as one HTML file, without any library.

In: `Clip`s (files beside the page), `Chart`s and paragraphs, in `Section`s. Out: HTML that plays
from the disk: videos by relative path, curves as inline SVG, styles from page.css, light and dark.
A chart that belongs to a clip shows where the clip is playing.

Tests: tests/examples/page_test.py.
"""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDE, NARROW, HEIGHT = 640, 440, 220  # of a chart, in its own units; it scales with the page
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 26, 34  # margins around the curves


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video or picture beside the page."""

    path: str  # relative to the page
    title: str
    note: str = ""
    poster: str = ""  # a picture to show until it plays


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve; `style` is "curve", "faint", "dot" or "area"."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: str = "curve"
    colour: int = 0  # 0-2, as page.css has them


@dataclasses.dataclass(frozen=True)
class Chart:
    """Curves over one axis; `title` is said in words above them."""

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    zero: bool = False  # the vertical axis begins at 0


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, what to see, and what there is to see.

    Attributes:
      title: The heading.
      text: One paragraph.
      strips: Some clips in a row, and a chart that compares them.
      charts: Side by side.
      paired: A clip and the chart that follows its playing, one pair under the other.
      rest: HTML that is already escaped.
    """

    title: str
    text: str
    strips: Sequence[tuple[Sequence[Clip], Chart | None]] = ()
    charts: Sequence[Chart] = ()
    paired: Sequence[tuple[Clip, Chart]] = ()
    rest: str = ""


def render(title: str, lead: str, hero: Clip | None, sections: Sequence[Section]) -> str:
    """The whole page as HTML; `hero` stands beside the title."""
    style = (Path(__file__).parent / "page.css").read_text()
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><div><h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p></div>'
        f"{_clip(hero) if hero else ''}</header>\n{body}\n"
        f"<script>\n{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def numbers_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The measured claims (numbers.json) as an HTML table."""
    head = "".join(f"<th>{cell}</th>" for cell in ("claim", "value", "95 % interval", "target", ""))
    lines = []
    for name, row in rows.items():
        known = row["low"] is not None
        bounds = f"{row['low']:.2f} to {row['high']:.2f}" if known else "unknown"
        verdict = {True: '<span class="met">met</span>', None: ""}.get(
            row["met"], '<span class="missed">missed</span>'
        )
        claim = html.escape(row["meaning"] or name)
        cells = (claim, f"{row['value']:.2f}", bounds, html.escape(row["target"] or ""), verdict)
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}\n</table></div>'


def commands(lines: Sequence[str]) -> str:
    """Command lines that were run, folded away."""
    text = html.escape("\n".join(lines))
    return f"<details><summary>The commands behind this page</summary><pre>{text}</pre></details>"


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>", f"<p>{html.escape(section.text)}</p>"]
    for clips, curves in section.strips:
        drawn = chart(curves) if curves else ""
        parts.append(f'<div class="strip">{"".join(map(_clip, clips))}{drawn}</div>')
    if section.charts:
        parts.append(f'<div class="halves">{"".join(map(chart, section.charts))}</div>')
    for clip, curves in section.paired:
        parts.append(f'<div class="pair">{_clip(clip)}{chart(curves, WIDE, is_timed=True)}</div>')
    return "<section>\n" + "\n".join(parts) + f"\n{section.rest}\n</section>"


def _clip(clip: Clip) -> str:
    source, title = html.escape(clip.path), html.escape(clip.title)
    if clip.path.endswith(".mp4"):
        poster = f' poster="{html.escape(clip.poster)}"' if clip.poster else ""
        picture = (
            f'<div class="player"><video src="{source}"{poster} title="{title}" controls loop '
            'playsinline preload="metadata"></video></div>'
        )
    else:
        picture = f'<img src="{source}" alt="{title}">'
    note = f"<br><span>{html.escape(clip.note)}</span>" if clip.note else ""
    return f"<figure>{picture}<figcaption>{title}{note}</figcaption></figure>"


def chart(curves: Chart, width: int = NARROW, is_timed: bool = False) -> str:
    """A chart as a figure with inline SVG.

    Args:
      curves: What to draw; values that are not finite interrupt a curve.
      width: In units of the drawing; the wider, the smaller its letters on the page.
      is_timed: Whether the horizontal axis is the time of the clip in the same pair.
    """
    x_low, x_high = _range([series.x for series in curves.series], zero=False)
    y_ticks = _ticks(*_range([series.y for series in curves.series], zero=curves.zero))
    right, floor = width - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return (
            LEFT + (x - x_low) / (x_high - x_low) * (right - LEFT),
            floor - up * (floor - TOP),
        )

    marks = []
    for tick in y_ticks:
        y = place(x_low, tick)[1]
        marks.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        marks.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    slack = 1e-9 * (x_high - x_low)
    for tick in (t for t in _ticks(x_low, x_high) if x_low - slack <= t <= x_high + slack):
        x = place(tick, y_ticks[0])[0]
        marks.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{tick:g}</text>')
    marks.append(
        f'<text x="{right}" y="{HEIGHT - 3}" text-anchor="end">{html.escape(curves.x_label)}</text>'
        f'<text x="{LEFT}" y="{TOP - 14}">{html.escape(curves.y_label)}</text>'
    )
    marks += [_drawn(series, place, y_ticks[0]) for series in curves.series]
    if is_timed:
        marks.append(
            f'<path class="head" d="M0 {TOP}V{floor}" visibility="hidden" '
            f'data-from="{LEFT}" data-per-second="{(right - LEFT) / (x_high - x_low):.3f}"/>'
        )
    legend = "".join(_legend(series) for series in curves.series if series.name)
    return (
        f'<figure class="chart"><figcaption>{html.escape(curves.title)}</figcaption>'
        f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{html.escape(curves.title)}">'
        f'{"".join(marks)}</svg><div class="legend">{legend}</div></figure>'
    )


def _drawn(series: Series, place: Any, floor: float) -> str:
    points = [
        place(x, y) if math.isfinite(y) else None for x, y in zip(series.x, series.y, strict=True)
    ]
    if series.style == "dot":
        circles = (f'<circle cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="4"/>' for p in points if p)
        return f'<g class="dot s{series.colour}">{"".join(circles)}</g>'
    path, pen = "", "M"
    for point in points:
        path += f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else ""
        pen = "L" if point else "M"
    if series.style == "area":
        (first, base), (last, _) = place(series.x[0], floor), place(series.x[-1], floor)
        return f'<path class="area" d="{path}L{last:.1f} {base:.1f}L{first:.1f} {base:.1f}Z"/>'
    faint = " faint" if series.style == "faint" else ""
    return f'<path class="curve s{series.colour}{faint}" d="{path}"/>'


def _legend(series: Series) -> str:
    mark = {"area": "area", "faint": f"s{series.colour} faint"}.get(
        series.style, f"s{series.colour}"
    )
    return f'<span><i class="{mark}"></i>{html.escape(series.name)}</span>'


def _range(values: Sequence[Sequence[float] | np.ndarray], zero: bool) -> tuple[float, float]:
    known = np.concatenate([np.asarray(v, np.float64) for v in values] or [np.zeros(0)])
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    return low, high if high > low else low + 1.0


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose the range, about as many as asked for."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


# A click plays; the line of a chart moves along with the clip of its pair; one clip at a time.
_SCRIPT = """\
const videos = [...document.querySelectorAll("video")];
for (const video of videos) {
  const button = document.createElement("button"), player = video.parentElement;
  const label = () => {
    button.textContent = video.paused ? "\\u25b6" : "\\u275a\\u275a";
    button.setAttribute("aria-label", (video.paused ? "play " : "pause ") + video.title);
    player.classList.toggle("playing", !video.paused);
  };
  video.controls = false;
  button.type = "button";
  player.append(button);
  player.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  video.addEventListener("pause", label);
  video.addEventListener("play", () => {
    for (const other of videos) if (other !== video) other.pause();
    label();
  });
  label();
}
for (const pair of document.querySelectorAll(".pair")) {
  const video = pair.querySelector("video"), head = pair.querySelector(".head");
  if (!video || !head) continue;
  const show = () => {
    const x = +head.dataset.from + video.currentTime * head.dataset.perSecond;
    head.setAttribute("transform", `translate(${x} 0)`);
    head.setAttribute("visibility", "visible");
    if (!video.paused) requestAnimationFrame(show);
  };
  for (const name of ["play", "seeked"]) video.addEventListener(name, show);
}
"""
