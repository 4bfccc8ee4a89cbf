"""Motion of the whole clip: speech, a person and two intensities in, one `Signals` out.

The one idea: the scene follows speech with delay. Nods come 0.3-0.6 s after stressed vowels,
shoulder lifts a little later, sway grows with the mean loudness, background and context object
move along. Blinks, brows, lids and cheeks are random. Then two intensities scale two groups:

    omega_l   brows, lids, cheeks, gaze   (lips are never scaled)
    omega_b   head and shoulders, moving as rigid bodies: a nod must not read as a face in motion

Amplitude is 0.06 + 0.94 omega, so 1.0 moves 6 times as far as 0.1. Each group is brought near a
common strength before it is scaled: else a clip's own luck would hide its intensity.

Arrays are [f]; pixels at 256, radians; y points down.
Tests: tests/data_pipeline/world/motion_test.py.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from data_pipeline.world import lips, speech
from data_pipeline.world.people import Person
from data_pipeline.world.speech import Utterance

FPS = 23.0
Curve = Float[np.ndarray, " f"]


@dataclasses.dataclass(frozen=True)
class Signals:
    """Everything that moves in a clip, one value per frame."""

    opening: Curve  # lips, 0-1
    width: Curve  # lips, -1..1
    brow: Curve  # raise, about -1..1
    lid: Curve  # openness of the eyes, 1 = normal, 0 = shut
    cheek: Curve  # raise, about 0..1
    head_x: Curve  # pixels
    head_y: Curve  # pixels, nods included
    tilt: Curve  # radians
    yaw: Curve  # radians, 0 = to the camera: the turn of a clip that starts turned
    shoulder: Curve  # pixels up
    body_x: Curve  # pixels
    scene_x: Curve  # pixels, background
    object_swing: Curve  # radians
    gaze_x: Curve  # pixels
    cover: Curve  # 0 = face covered ... 1 = cover gone


def frame_times(frames: int) -> Curve:
    """Centres of the frames in seconds."""
    return (np.arange(frames) + 0.5) / FPS


def signals(
    sound: Utterance,
    person: Person,
    omegas: tuple[float, float],
    start: str,
    frames: int,
    draw: np.random.Generator,
) -> Signals:
    """Move one clip.

    Args:
      sound: the cut of the clip (times may reach before it: earlier stress still echoes).
      person: gives rates and delays.
      omegas: (omega_l, omega_b) in [0, 1].
      start: "open", "turned" or "covered".
      frames: f.
      draw: the clip's own random numbers.
    """
    times = frame_times(frames)
    opening, width = lips.curves(sound, times)
    expression, body = (0.06 + 0.94 * omega for omega in omegas)
    face = _expression(times, expression, draw)
    frame = _body(sound, person, times, body, draw)
    yaw, cover = _reveal(start, frames, draw)
    swing = _echo(sound, times, 0.5, 0.20) * np.sin(2 * np.pi * 1.1 * times + draw.uniform(0, 6.3))
    return Signals(
        opening=opening,
        width=width,
        yaw=yaw,
        cover=cover,
        object_swing=0.10 * swing + 0.04 * _drift(times, 0.8, draw),
        gaze_x=2.0 * expression * _drift(times, 0.7, draw),
        **face,
        **frame,
    )


def _expression(times: Curve, amount: float, draw: np.random.Generator) -> dict[str, Curve]:
    brow = _level(_drift(times, draw.uniform(0.9, 1.4), draw), 0.55)
    cheek = _level(_drift(times, draw.uniform(0.7, 1.2), draw), 0.45)
    squint = _level(_drift(times, draw.uniform(0.8, 1.3), draw), 0.16)
    blink = np.zeros_like(times)
    moment = draw.uniform(0.1, 1.3)
    while moment < times[-1]:
        blink = np.maximum(blink, np.exp(-0.5 * ((times - moment) / 0.055) ** 4))
        moment += draw.uniform(1.1, 3.0)
    lid = (1 + amount * squint) * (1 - min(1.0, 1.5 * amount) * blink)
    return {"brow": amount * brow, "lid": lid, "cheek": amount * cheek}


def _body(
    sound: Utterance, person: Person, times: Curve, amount: float, draw: np.random.Generator
) -> dict[str, Curve]:
    nod = _echo(sound, times, person.nod_delay, 0.10)
    lift = _echo(sound, times, person.shoulder_delay, 0.14)
    loud = speech.loudness(sound, times)
    mean = float(loud.mean())
    phase = draw.uniform(0, 2 * np.pi)
    sway = np.sin(2 * np.pi * person.sway_rate * times + phase) * (0.4 + 0.9 * mean)
    idle = _drift(times, 0.6, draw)
    head_x = 7.0 * sway + 1.5 * idle
    head_y = 8.5 * nod + 1.2 * _drift(times, 0.7, draw)
    shoulder = 8.0 * lift
    travel = np.sqrt(head_x.var() + head_y.var() + shoulder.var())
    # towards a common strength, softly
    gain = amount * float(np.clip((8.5 / max(travel, 0.5)) ** 0.7, 0.6, 1.9))
    tilt = 0.055 * np.sin(2 * np.pi * person.sway_rate * times + phase - 0.6) * (0.4 + 0.9 * mean)
    return {
        "head_x": gain * head_x,
        "head_y": gain * (head_y - 0.35 * shoulder),
        "tilt": gain * (tilt + 0.015 * idle),
        "shoulder": gain * shoulder,
        "body_x": gain * 0.45 * head_x,
        "scene_x": 3.0 * np.sin(2 * np.pi * 0.4 * (times - 0.3) + phase) * (0.2 + mean),
    }


def _echo(sound: Utterance, times: Curve, delay: float, spread: float) -> Curve:
    """A smooth bump `delay` seconds after each stressed vowel, whatever came before the cut."""
    stressed = sound.stress > 0
    starts = sound.times[stressed, 0]
    weights = np.where(sound.stress[stressed] == 2, 1.0, 0.5)
    bumps = np.exp(-0.5 * ((times[:, None] - starts[None] - delay) / spread) ** 2)
    return 1.3 * np.tanh((bumps * weights).sum(axis=1) / 1.3)


def _drift(times: Curve, rate: float, draw: np.random.Generator) -> Curve:
    """Smooth random motion of unit strength: three sines around a rate in Hz."""
    rates = rate * draw.uniform(0.6, 1.5, 3)
    phases = draw.uniform(0, 2 * np.pi, 3)
    weights = np.array([1.0, 0.7, 0.4])
    waves = np.sin(2 * np.pi * rates[None] * times[:, None] + phases[None])
    return (waves * weights).sum(axis=1) / np.sqrt((weights**2).sum() / 2)


def _level(values: Curve, strength: float) -> Curve:
    """Move a curve's standard deviation most of the way to `strength`; its mean stays small."""
    centred = values - 0.7 * values.mean()
    return centred * strength / max(float(centred.std()), 0.3)


def _reveal(start: str, frames: int, draw: np.random.Generator) -> tuple[Curve, Curve]:
    """(yaw, cover): the face is away during the first third at most and shown by the half."""
    none, shown = np.zeros(frames), np.ones(frames)
    if start == "open":
        return none, shown
    length = frames - 1
    first = draw.uniform(0.14, 0.24) * length
    last = draw.uniform(0.42, 0.48) * length
    last = min(last, first + 1.0 * FPS)
    step = np.clip((np.arange(frames) - first) / (last - first), 0, 1)
    eased = step * step * (3 - 2 * step)
    if start == "covered":
        return none, eased
    side = draw.choice([-1.0, 1.0])
    return side * draw.uniform(0.92, 1.0) * np.pi * (1 - eased), shown
