"""What the demo made -> its page: sections, charts and words.

In: the JSON files of the clips, the logs of the two stages, the numbers of the benchmark where they
are there. Out: index.html beside them. Nothing is computed here but means and smoothed curves.

Tests: tests/examples/demo_test.py.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples import page
from examples.page import Chart, Clip, Section, Series

Row = Mapping[str, Any]


def write_page(out: Path, facts: Row) -> Path:
    """Writes out/index.html and returns its path.

    Args:
      out: Folder of the demo.
      facts: About this run: steps (seconds of each), cores, machine, peak_gib.
    """
    made = json.loads((out / "clips.json").read_text())
    clips: dict[str, Row] = made["clips"]
    tuned: dict[str, Row] = json.loads((out / "tuned.json").read_text())["clips"]
    sections = [
        speaking(clips),
        intensities(clips),
        long_clip(clips),
        stages(out, clips, tuned, facts),
        *claims(out),
        behind(out, made["caption"], facts),
    ]
    target = out / "index.html"
    title = "A portrait and speech become a talking clip"
    hero = Clip("clips/portrait.png", "The picture", "all that the model sees of this person")
    target.write_text(page.render(title, lead(facts), hero, sections))
    return target


def lead(facts: Row) -> str:
    """The sentence under the title."""
    spent = clock(sum(facts["steps"].values()))
    model = f"the weights {facts['weights']}" if facts["weights"] else "the small model that ships"
    return (
        f"Everything below was made on this machine by make demo: {spent} on {facts['cores']} "
        f"cores, at most {facts['peak_gib']:.1f} GiB of memory, with {model} and data drawn on "
        "the spot. Nothing was fetched."
    )


def speaking(clips: Mapping[str, Row]) -> Section:
    """Own and other speech."""
    return Section(
        "A face and speech it has never seen",
        "Two clips made from the picture above. Neither the face nor the sentences were part of "
        "any training. Click a clip to hear it; a line in its chart shows where it is.",
        paired=[
            (shown(clips["own"], "Its own speech", said(clips["own"])), lips(clips["own"])),
            (shown(clips["other"], "Other speech", said(clips["other"])), lips(clips["other"])),
        ],
    )


def intensities(clips: Mapping[str, Row]) -> Section:
    """The two sweeps."""
    strips = []
    for kind in ("expression", "body"):
        rows = [clips[f"{kind}_0"], clips["own"], clips[f"{kind}_1"]]
        shows = [shown(row, f"{kind.capitalize()} {row[f'{kind}_asked']:g}") for row in rows]
        strips.append((shows, sweep(rows, kind) if "scores" in rows[0] else None))
    return Section(
        "How much it moves",
        "Two numbers from 0 to 1 say how much brows, lids and cheeks move (expression) and how "
        "much head and shoulders do (body). Same picture, same speech, same noise.",
        strips=strips,
    )


def long_clip(clips: Mapping[str, Row]) -> Section:
    """Longer than anything seen in training."""
    row = clips["long"]
    times = row["frames"] / max(clips["own"]["frames"], 1)
    return Section(
        "Longer than the training clips",
        f"{row['frames'] / row['fps']:.1f} s, {times:.1f} times the training length, from "
        f"{row['windows']} overlapping windows that are denoised together.",
        paired=[(shown(row, "Long speech", said(row)), lips(row))],
    )


def stages(out: Path, clips: Mapping[str, Row], tuned: Mapping[str, Row], facts: Row) -> Section:
    """Training of both stages, and what the second one adds."""
    logs = {name: log(out / "train" / name / "log.jsonl") for name in ("clip", "frame")}
    pairs = []
    if "stage_1" in clips:
        text = (
            "Below the losses: the same clip as stage 1 alone makes it, where every frame hears "
            "the whole speech, and with stage 2, where each hears its own moment."
        )
        pairs = [
            (
                shown(clips["stage_1"], "Without stage 2", said(clips["stage_1"])),
                lips(clips["stage_1"]),
            ),
            (shown(clips["own"], "With stage 2", said(clips["own"])), lips(clips["own"])),
        ]
    else:
        text = "These weights do not say what stage 1 alone had learned."
    pairs.append(
        (
            shown(tuned["tuned"], "After the minute of training", said(tuned["tuned"])),
            lips(tuned["tuned"]),
        )
    )
    seconds = facts["steps"].get("clip", 0) + facts["steps"].get("frame", 0)
    return Section(
        "The two training stages",
        f"Both stages ran here, {clock(seconds)} together, on clips that were drawn, annotated "
        "and encoded a moment before, starting from these weights: that training runs is "
        f"what this shows, not that a minute improves a model. {text}",
        charts=[
            losses(logs["clip"], "Stage 1: the whole clip hears the whole speech"),
            losses(logs["frame"], "Stage 2: every frame hears its own moment, lips weigh most"),
        ],
        paired=pairs,
    )


def claims(out: Path) -> list[Section]:
    """The measured claims, where make demo-numbers has left them."""
    path = out / "numbers.json"
    if not path.is_file():
        return []
    rows = json.loads(path.read_text())["numbers"]
    text = (
        "From make demo-numbers: held-out faces and speech, measured in the decoded pixels of the "
        "clips; intervals are paired bootstraps over clips."
    )
    return [Section("What was measured", text, rest=page.numbers_table(rows))] if rows else []


def behind(out: Path, caption: str, facts: Row) -> Section:
    """How to do the same by hand, and how long each step took."""
    steps = [f"{seconds:7.0f} s  {name}" for name, seconds in facts["steps"].items()]
    lines = [
        f"python -m ft_jax.cli.generate --image {out}/clips/portrait.png \\",
        f"    --audio {out}/clips/own.mp4 --out clip.mp4 \\",
        f"    --prompt '{caption}'"
        + (f" --weights {facts['weights']}" if facts["weights"] else ""),
        f"python -m ft_jax.cli.evaluate --clips {out}/clips",
        "",
        *steps,
        "",
        f"{facts['machine']}, {facts['cores']} cores",
    ]
    return Section(
        "By hand",
        "The small model knows drawn people of one world at 64 x 64 pixels, enlarged here.",
        rest=page.commands(lines),
    )


def shown(row: Row, title: str, note: str = "") -> Clip:
    """A clip with its still."""
    return Clip(row["file"], title, note, row["still"])


def said(row: Row) -> str:
    """How well the lips follow, in words."""
    if "scores" not in row:
        return ""
    return f"r = {row['scores']['lips_truth']:.2f} with the opening of this speech"


def lips(row: Row) -> Chart:
    """Lip opening of a clip against the sound."""
    if "track" not in row:
        return Chart("Not measured: these weights have no measuring network", [], "seconds", "")
    times = (np.arange(len(row["track"])) + 0.5) / row["fps"]
    truth = np.array(row["speech_track"][: len(times)], float)
    top = max(float(np.nanmax(truth)), 1e-3)
    loud = np.array(row["loudness"], float) * top
    return Chart(
        "Opening of the lips, measured in the clip",
        [
            Series("loudness of the speech", times, loud, "area"),
            Series("the world's own mouth saying this", times[: len(truth)], truth, "curve", 1),
            Series("generated", times, np.array(row["track"], float), "curve", 0),
        ],
        "seconds",
        "head heights",
        zero=True,
    )


def sweep(rows: Sequence[Row], kind: str) -> Chart:
    """Both intensities over one that is asked for; each relative to the neutral clip."""
    asked = [row[f"{kind}_asked"] for row in rows]
    series = []
    for colour, name in enumerate(("expression", "body")):
        seen = np.sqrt([row["scores"][name] for row in rows])
        relative = seen / max(seen[1], 1e-9)
        series.append(Series(f"{name} motion", asked, relative, "curve", colour))
        series.append(Series("", asked, relative, "dot", colour))
    title = f"Motion measured while {kind} is asked for"
    return Chart(title, series, f"{kind} asked for", "times the neutral clip", zero=True)


def log(path: Path) -> list[tuple[int, float]]:
    """(step, loss) of a training log."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def losses(points: Sequence[tuple[int, float]], title: str) -> Chart:
    """The loss of every step and its running mean."""
    steps = np.array([step for step, _ in points], float)
    values = np.array([loss for _, loss in points], float)
    width = max(1, len(values) // 6)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    low = np.maximum(np.arange(len(values)) - width + 1, 0)
    smooth = (sums[1:] - sums[low]) / (np.arange(len(values)) - low + 1)
    return Chart(
        title,
        [
            Series("each step", steps, values, "faint", 0),
            Series(f"mean of {width} steps", steps, smooth, "curve", 0),
        ],
        "step",
        "loss",
        zero=True,
    )


def clock(seconds: float) -> str:
    """Seconds for people: 4 min 05 s."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
