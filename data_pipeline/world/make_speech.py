"""Make a pool of speech: sentences said by several voices, with phoneme timings.

In: how many utterances, a seed. Out: DIR/speech.ogg (Opus, 16 kHz voice) and DIR/speech.json
(per utterance: offset, text, voice, split, phoneme rows). The one idea: what ships with the
package is simply a small pool made by this command; a larger one is made the same way and given
to the world by its folder.

    python -m data_pipeline.world.make_speech --out DIR --utterances 1200 --seed 1

Half of an embedded-size pool is held out, so that evaluation has enough of it. The held-out
voice speaks held-out texts only. Made in one fresh process: the same arguments give the same pool.

Tests: speech_test.py guards the asset made with the defaults.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np

from data_pipeline.world import espeak, lexicon
from ft_jax.errors import UsageError

GAP = 0.25  # seconds of silence between utterances in the file


def plan(utterances: int, seed: int, held_out: float) -> list[tuple[str, str, espeak.Voice]]:
    """Choose (split, text, voice) for every utterance; texts never repeat."""
    draw = random.Random(seed)
    wanted = {"heldout": round(utterances * held_out)}
    wanted["train"] = utterances - wanted["heldout"]
    train_voices = [v for v in espeak.VOICES if v.name != espeak.HELD_OUT_VOICE]
    rows: list[tuple[str, str, espeak.Voice]] = []
    seen: set[str] = set()
    while len(rows) < utterances:
        text = lexicon.sentence(draw.getrandbits(40))
        split = "heldout" if lexicon.is_held_out(text) else "train"
        count = sum(row[0] == split for row in rows)
        if text in seen or count >= wanted[split]:
            continue
        seen.add(text)
        # every second held-out text is said by the held-out voice
        new_voice = split == "heldout" and count % 2 == 0
        voice = espeak.VOICES[-1] if new_voice else train_voices[count // 2 % len(train_voices)]
        if split == "train":
            voice = train_voices[count % len(train_voices)]
        rows.append((split, text, voice))
    return rows


def make(out: Path, utterances: int, seed: int, held_out: float) -> float:
    """Synthesise and write a pool; returns its length in seconds."""
    from tqdm import tqdm

    synthesiser = espeak.Synthesiser()
    pieces: list[np.ndarray] = []
    table: list[dict[str, object]] = []
    position = 0
    gap = np.zeros(int(GAP * espeak.SAMPLE_RATE), np.float32)
    for number, (split, text, voice) in enumerate(
        tqdm(plan(utterances, seed, held_out), desc="speech", unit="utterance")
    ):
        samples, rows = synthesiser.say(text, voice)
        samples = samples * np.float32(0.6 / max(float(np.abs(samples).max()), 1e-3))
        table.append(
            {
                "id": f"u{seed}-{number:05d}",
                "split": split,
                "text": text,
                "voice": voice.name,
                "start": position,
                "samples": len(samples),
                "phonemes": [
                    [label, stress, round(begin, 4), round(end, 4)]
                    for label, stress, begin, end in rows
                ],
            }
        )
        pieces += [samples, gap]
        position += len(samples) + len(gap)
    out.mkdir(parents=True, exist_ok=True)
    _write_ogg(out / "speech.ogg", np.concatenate(pieces))
    text = json.dumps({"utterances": table}, separators=(",", ":"))
    (out / "speech.json.part").write_text(text)
    (out / "speech.json.part").rename(out / "speech.json")
    return position / espeak.SAMPLE_RATE


def _write_ogg(path: Path, samples: np.ndarray) -> None:
    import av

    part = path.with_name("part-" + path.name)
    with av.open(str(part), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=espeak.SAMPLE_RATE, layout="mono")
        stream.codec_context.bit_rate = 24_000
        pcm = np.clip(samples * 32767, -32768, 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate = espeak.SAMPLE_RATE
        frame.pts = 0
        for source in (frame, None):
            for packet in stream.encode(source):
                container.mux(packet)
    part.rename(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "assets")
    parser.add_argument("--utterances", type=int, default=88)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=float, default=0.5)
    args = parser.parse_args()
    if args.utterances < 4:
        raise UsageError(f"--utterances {args.utterances}: too few; expected 4 or more")
    seconds = make(args.out, args.utterances, args.seed, args.held_out)
    print(f"{args.utterances} utterances, {seconds:.0f} s of speech in {args.out}")


if __name__ == "__main__":
    main()
