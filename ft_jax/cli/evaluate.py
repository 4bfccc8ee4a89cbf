r"""Measures talking clips: lips against their sound, how much they move, how smoothly.

    python -m ft_jax.cli.evaluate --clips outputs/demo/clips
    python -m ft_jax.cli.evaluate --clips DIR --out numbers.json --weights WEIGHTS

DIR holds mp4 files with sound, in itself or in DIR/clips. Where CLIP.truth.npz lies beside a clip,
as the drawn world writes it, lips are held against the opening that its speech has and against its
m, b and p. The measuring network is that of the weights (a bundle, a folder of weights or a run;
without them the model that ships), made for the drawn world; on photographs it sees little, and
what it does not see counts as 0. Weights that have SyncNet (imported from `syncnet_v2.model`) give
LSE-D and LSE-C besides, which are for photographs; weights without the measuring network, these
only.

Numbers are means over the clips with 95 % bootstrap intervals.
Exit status: 0 done, 2 wrong input (one line says what), 130 interrupted.
"""

import json
import pathlib
import zipfile
from typing import Any

from absl import flags

from ft_jax.cli import entry
from ft_jax.errors import UsageError

flags.DEFINE_string("clips", None, "Folder of mp4 files.")
flags.DEFINE_string("out", None, "Where the numbers are written (.json); default: nowhere.")
flags.DEFINE_string("weights", None, "A bundle, a folder of weights or a run.")


def main(arguments: list[str]) -> None:
    """Checks the input, measures clip after clip, prints the table."""
    if arguments:
        raise UsageError(f"{arguments[0]}: not expected here; expected flags only, see --help")
    given = flags.FLAGS
    paths = find_clips(pathlib.Path(entry.need("clips", "a folder of mp4 files")))
    out = pathlib.Path(given.out) if given.out else None
    from ft_jax.cli import progress
    from ft_jax.eval import numbers
    from ft_jax.media import file

    if out is not None:
        file.check_target(out, ".json")
    judge = Judge(given.weights)
    scores: dict[str, dict[str, float]] = {}
    with progress.bar("measuring") as report:
        for done, path in enumerate(paths):
            report(done, len(paths))
            scores[path.stem] = judge.scores(path)
    rows = {number.name: number.record() for number in means(list(scores.values()))}
    print(numbers.table(rows))
    if out is not None:
        content = {"weights": judge.weights, "numbers": rows, "clips": scores}
        with file.replacing(out) as beside:
            beside.write_text(json.dumps(content, indent=1) + "\n")


def find_clips(folder: pathlib.Path) -> list[pathlib.Path]:
    """The mp4 files of a folder, or of its folder `clips`, by name.

    Raises:
      UsageError: There is no such folder, or no clip in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected one with mp4 files")
    found = sorted(folder.glob("*.mp4")) or sorted((folder / "clips").glob("*.mp4"))
    if not found:
        raise UsageError(f"{folder}: no mp4 files in it; expected some, or in {folder / 'clips'}")
    return found


class Judge:
    """The measuring networks of a system: that of the drawn world, SyncNet, or both.

    Args:
      weights: A bundle, a folder of weights or a run; None for the bundle that ships.

    Raises:
      UsageError: The weights cannot be read, or have neither.
    """

    def __init__(self, weights: str | None) -> None:
        from ft_jax.checkpoints import bundle, handover
        from ft_jax.config import build
        from ft_jax.eval.instrument import Instrument
        from ft_jax.eval.sync import Listener
        from ft_jax.models.system import System

        self.weights = str(weights or bundle.SHIPPED)
        source = handover.read(self.weights)
        self._system = build(System, source.system, self.weights)
        self._listener = self._instrument = None
        if self._system.sync is not None and "sync" in source.parts:
            self._listener = Listener(self._system.sync, source.part("sync"))
        if self._listener is None or "landmarks" in source.parts:
            self._instrument = Instrument(self._system.landmarks, source.part("landmarks"))

    def scores(self, path: pathlib.Path) -> dict[str, float]:
        """The values of one clip by the names of ft_jax/eval/clip.py and ft_jax/eval/sync.py."""
        from ft_jax.media import sound, video

        seen, speech, values = video.read(path), sound.read(path).speech, {}
        if self._instrument is not None:
            values |= self._measured(self._instrument, path, seen, speech)
        if self._listener is not None:
            values |= self._listener.scores(seen.frames, seen.fps, speech)
        return values

    def _measured(
        self, instrument: Any, path: pathlib.Path, seen: Any, speech: Any
    ) -> dict[str, float]:
        """Those of ft_jax/eval/clip.py, measured in the middle square."""
        import numpy as np

        from ft_jax.eval import clip
        from ft_jax.media import image, sound

        system = self._system
        height, width = seen.frames.shape[1:3]
        aspect = system.width / system.height
        region = image.frame(height, width, aspect, None, image.Framing())
        frames = np.stack(
            [image.resize(frame, system.height, system.width, region) for frame in seen.frames]
        )
        loud = clip.loudness(speech, sound.SPEECH_RATE, len(frames), seen.fps)
        return clip.scores(instrument.measure(frames), seen.fps, loud, truth_of(path, seen.fps))


def truth_of(path: pathlib.Path, fps: float) -> Any:
    """What the drawn world wrote beside a clip, or None."""
    import numpy as np

    from data_pipeline.world import phonemes
    from ft_jax.eval import clip, lips

    place = path.with_suffix(".truth.npz")
    if not place.is_file():
        return None
    try:
        # Opened here: numpy leaves a broken archive open.
        with place.open("rb") as file, np.load(file, allow_pickle=False) as held:
            closing = np.isin(held["phoneme_labels"], sorted(phonemes.BILABIAL))
            spans = lips.spans_of(held["phoneme_times"][closing].astype(np.float64), fps)
            return clip.Truth(held["lip_opening"].astype(np.float64), spans)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{place}: not a truth file of the world ({error})") from None


def means(scores: list[dict[str, float]]) -> list[Any]:
    """One number for every name that some clip has, over the clips that have it."""
    import numpy as np

    from ft_jax.eval import clip, sync
    from ft_jax.eval.bootstrap import bootstrap, mean
    from ft_jax.eval.numbers import Number

    rows = []
    for name, meaning in (clip.MEANINGS | sync.MEANINGS).items():
        known = [values[name] for values in scores if name in values]
        if known:
            rows.append(Number(name, meaning, bootstrap(mean, np.array(known))))
    return rows


if __name__ == "__main__":
    entry.run(main)
