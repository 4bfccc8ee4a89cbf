"""The source: clip number k of a split, as a pure function.

In: split, seed, number, frames. Out: a `Clip`: frames, sound, truth, and what is known of it.
The one idea: everything random is drawn from one generator keyed by (split, seed, number), so
clips can be made in any order, by any number of processes, and made again.

Shapes: frames uint8 [f 256 256 3]; audio int16 [f * 16000 // 23]; truth.py for the truth.
Tests: tests/data_pipeline/world/source_test.py.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from jaxtyping import Int16, UInt8

from data_pipeline.world import motion, people, scene, speech, truth
from data_pipeline.world.motion import FPS, Signals
from data_pipeline.world.people import Person
from data_pipeline.world.portrait import SIZE, Studio
from data_pipeline.world.scene import Scene
from data_pipeline.world.speech import SAMPLE_RATE, Utterance
from ft_jax.errors import UsageError

__all__ = ["FPS", "SIZE", "Choice", "Clip", "choose", "clip", "render", "render_portrait"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a clip is made of; replace fields to make its siblings (other speech, other omegas)."""

    id: str
    split: str
    person_index: int
    sound: Utterance  # cut to the clip
    omega_l: float
    omega_b: float
    scene: Scene
    frames: int
    entropy: tuple[int, ...]  # of what is left to chance: blinks, drift, reveal


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip with its truth."""

    choice: Choice
    frames: UInt8[np.ndarray, "f h w 3"]
    audio: Int16[np.ndarray, " samples"]
    truth: truth.Truth

    @property
    def id(self) -> str:
        """Unique name: split, seed, number, frames."""
        return self.choice.id


def choose(
    split: str, seed: int, number: int, frames: int = 33, pool: Path | None = None
) -> Choice:
    """Draw who says what where, without painting it.

    Args:
      split: "train" or "heldout": people and utterances come from it alone.
      seed: of the corpus.
      number: of the clip.
      frames: 4n + 1.
      pool: folder with more speech; None for the embedded one.

    Raises:
      UsageError: when frames is not 4n + 1 or the split is unknown.
    """
    if frames < 5 or frames % 4 != 1:
        raise UsageError(f"frames {frames}: a clip has 4n + 1 frames; expected 17, 33, 97, ...")
    entropy = (speech.SPLITS.index(split) if split in speech.SPLITS else -1, seed, number)
    utterances = speech.utterances(split, pool)
    draw = np.random.default_rng(entropy)
    index = int(draw.choice(np.array(people.indices(split))))
    omega_l, omega_b = (float(value) for value in draw.uniform(0, 1, 2))
    surroundings = scene.draw_scene(draw)
    sound = _cut(utterances, frames / FPS, draw)
    return Choice(
        id=f"{split}-{seed}-{number:06d}-{frames}",
        split=split,
        person_index=index,
        sound=sound,
        omega_l=omega_l,
        omega_b=omega_b,
        scene=surroundings,
        frames=frames,
        entropy=entropy,
    )


def _cut(utterances: tuple[Utterance, ...], seconds: float, draw: np.random.Generator) -> Utterance:
    """A random cut that is filled with speech; sentences are joined when one is too short."""
    first = utterances[int(draw.integers(len(utterances)))]
    chosen = [first]
    same_voice = [u for u in utterances if u.voice == first.voice]
    while sum(u.seconds for u in chosen) < seconds + 0.3:
        chosen.append(same_voice[int(draw.integers(len(same_voice)))])
    whole = speech.join(tuple(chosen)) if len(chosen) > 1 else first
    last = whole.times[whole.labels != 0, 1].max()  # end of the last sound
    start = draw.uniform(0.0, max(last - seconds, 0.0) + 0.05)
    # start on a sample, so that sound and phonemes are cut at the same moment
    return speech.cut(whole, round(start * SAMPLE_RATE) / SAMPLE_RATE, seconds)


def move(choice: Choice) -> Signals:
    """The signals of a choice."""
    return motion.signals(
        choice.sound,
        people.person(choice.person_index),
        (choice.omega_l, choice.omega_b),
        choice.scene.start,
        choice.frames,
        np.random.default_rng((*choice.entropy, 1)),
    )


def render(choice: Choice) -> Clip:
    """Paint a choice."""
    signals = move(choice)
    studio = Studio(people.person(choice.person_index), choice.scene)
    frames, poses = [], []
    for i in range(choice.frames):
        picture, pose = studio.frame(signals, i)
        frames.append(picture)
        poses.append(pose)
    audio = np.clip(np.round(choice.sound.samples * 32767), -32768, 32767).astype(np.int16)
    return Clip(choice, np.stack(frames), audio, truth.measure(poses, signals))


def clip(split: str, seed: int, number: int, frames: int = 33, pool: Path | None = None) -> Clip:
    """Clip `number` of a split (see `choose` for arguments and errors)."""
    return render(choose(split, seed, number, frames, pool))


@functools.lru_cache(maxsize=64)
def _neutral_scene(background: int) -> Scene:
    return scene.draw_scene(np.random.default_rng([background, 4242]), "open")


def render_portrait(person: Person, background: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """A still of a person: face shown, mouth closed, in surroundings number `background`."""
    still = {field.name: np.zeros(1) for field in dataclasses.fields(Signals)}
    still["lid"] = still["cover"] = np.ones(1)
    picture, _ = Studio(person, _neutral_scene(background)).frame(Signals(**still), 0)
    return picture
