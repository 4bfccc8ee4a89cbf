"""The rows of the measured claims: clips in, numbers with intervals and targets out.

Each row is a function of the `Bench`; it makes the clips it needs (they are kept, so rows share
them) and measures them on decoded pixels.

Tests: tests/examples/demo_numbers_test.py.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.demo_clips import Arm, Case, Gallery
from ft_jax.eval import identity, lips, motion
from ft_jax.eval.bootstrap import Interval, bootstrap, difference, mean, ratio
from ft_jax.eval.clip import CLOSED
from ft_jax.eval.instrument import Measured
from ft_jax.eval.numbers import Number, Target
from ft_jax.typing import Params

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the sweep
LOW, HIGH = 0.1, 1.0  # of the ratios
FACES = 20  # among which an identity is looked for
KINDS = ("expression", "body")
TRACKS = {"expression": motion.expression_tracks, "body": motion.body_tracks}
MAIN = Arm("main")
BASE = Arm("base", without=("audio", "identity", "motion"))


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the rows measure with.

    Attributes:
      gallery: Makes and measures clips.
      pairs: Cases with the face shown from the start.
      hidden: Cases that start covered.
      swept: The first of `pairs`, for the sweeps.
      others: All drawn clips, to find other clips of a person.
      codec: Parameters of the codec.
      encoder: The face encoder.
    """

    gallery: Gallery
    pairs: Sequence[Case]
    hidden: Sequence[Case]
    swept: Sequence[Case]
    others: Sequence[Case]
    codec: Params
    encoder: identity.Encoder

    def made(self, arm: Arm, cases: Sequence[Case]) -> list[Measured]:
        """Clips of an arm, generated and measured."""
        self.gallery.generate(arm, cases)
        return self.gallery.measured(arm.name, cases)

    @functools.cached_property
    def fps(self) -> float:
        """Of the system."""
        return self.gallery.pipeline.system.fps


def scores(
    found: Sequence[Measured], cases: Sequence[Case], track: str = "lip_opening"
) -> np.ndarray:
    """Correlation of each clip's measured opening with the opening of a case's speech."""
    values = []
    for measured, case in zip(found, cases, strict=True):
        frames = min(len(case.opening), len(measured.tracks[track]))
        values.append(lips.correlation(measured.tracks[track][:frames], case.opening[:frames]))
    return np.array([float(value) for value in values])


def counted(found: Sequence[Measured], cases: Sequence[Case]) -> np.ndarray:
    """Sounds that need closed lips in each clip, [clips, (closed, spoken)]."""
    counts = [
        lips.closures(measured.tracks["lip_opening"], case.spans, CLOSED)
        for measured, case in zip(found, cases, strict=True)
    ]
    return np.array([[count.closed, count.spoken] for count in counts], np.float64)


def areas(bench: Bench, arm: str, found: Sequence[Measured]) -> list[Measured]:
    """The same clips with the opening as the second instrument sees it: by the mouth's colours."""
    return [
        dataclasses.replace(
            measured,
            tracks={"area": lips.mouth_area(bench.gallery.frames(arm, case), measured.boxes)},
        )
        for measured, case in zip(found, bench.pairs, strict=True)
    ]


def instrument(bench: Bench) -> list[Number]:
    """How well the instruments see what was drawn, and what the codec leaves of it."""
    rows = []
    bench.gallery.reconstruct(bench.pairs, bench.codec)
    for arm, what, least in (("true", "drawn clips", 0.95), ("codec", "reconstructions", 0.90)):
        found = bench.gallery.measured(arm, bench.pairs)
        seen = bootstrap(mean, scores(found, bench.pairs))
        by_area = bootstrap(mean, scores(areas(bench, arm, found), bench.pairs, "area"))
        rows += [
            Number(
                f"instrument_{arm}",
                f"instrument: measured with true lip opening, {what}, r",
                seen,
                Target(least=least),
            ),
            Number(
                f"instrument_{arm}_colours",
                f"second instrument (colours of the mouth), {what}, r",
                by_area,
            ),
        ]
    return rows


def base(bench: Bench) -> list[Number]:
    """The frozen base must not know the speech."""
    found = bench.made(BASE, bench.pairs)
    meaning = "base model without the audio branch: lip opening against the speech, r"
    r = bootstrap(mean, scores(found, bench.pairs))
    return [
        Number("base", meaning, r, Target(least=-0.1, most=0.1)),
        Number("base_seen", "frames of these in which the face is seen", seen_in(found)),
    ]


def measured_share(found: Measured) -> float:
    """Share of a clip's frames in which the face was seen."""
    return float(np.isfinite(found.tracks["lip_opening"]).mean())


def seen_in(found: Sequence[Measured]) -> Interval:
    """Mean of that share: without it, a number near 0 could mean that nothing was seen."""
    return bootstrap(mean, np.array([measured_share(each) for each in found]))


def generated_lips(bench: Bench) -> list[Number]:
    """Generated lips against the opening of their speech, and of another clip's."""
    found = bench.made(MAIN, bench.pairs)
    r = scores(found, bench.pairs)
    bench.gallery.reconstruct(bench.pairs, bench.codec)
    r_codec = scores(bench.gallery.measured("codec", bench.pairs), bench.pairs)
    following = dict(zip([case.id for case in bench.pairs], turned(bench.pairs), strict=True))
    other = Arm("other_speech", speech=lambda case: following[case.id])
    r_other = scores(bench.made(other, bench.pairs), bench.pairs)
    r_area = scores(areas(bench, MAIN.name, found), bench.pairs, "area")
    return [
        Number(
            "lips",
            "generated lip opening against the opening of this speech, mean r",
            bootstrap(mean, r),
            Target(least=0.6),
        ),
        Number(
            "lips_of_codec",
            "the same as a share of what the codec allows (r / r_c)",
            bootstrap(ratio, r, r_codec),
            Target(least=0.7),
        ),
        Number(
            "lips_above_other_speech",
            "the same minus r with another clip's speech",
            bootstrap(difference, r, r_other),
            Target(least=0.4, least_low=0.3),
        ),
        Number("lips_colours", "mean r by the second instrument", bootstrap(mean, r_area)),
        Number("lips_seen", "frames of these in which the face is seen", seen_in(found)),
    ]


def turned(cases: Sequence[Case]) -> list[Case]:
    """Every case's partner for shuffled speech: the next one that says something else."""
    partners = []
    for k, case in enumerate(cases):
        rest = [*cases[k + 1 :], *cases[:k]]
        same = case.opening
        partners.append(next((other for other in rest if differs(other.opening, same)), case))
    return partners


def differs(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two openings belong to different cuts of speech."""
    return one.shape != other.shape or abs(float(lips.correlation(one, other))) < 0.9


def closure(bench: Bench) -> list[Number]:
    """Lips closed on m, b, p; and that they are not simply always closed."""
    found = bench.made(MAIN, bench.pairs)
    bench.gallery.reconstruct(bench.pairs, bench.codec)
    true = counted(bench.gallery.measured("codec", bench.pairs), bench.pairs)
    made = counted(found, bench.pairs)
    meant = ((m, c) for m, c in zip(found, bench.pairs, strict=True))
    shut = [
        np.mean(m.tracks["lip_opening"][c.opening > c.opening.mean()] < CLOSED) for m, c in meant
    ]
    return [
        Number(
            "closure",
            "lips closed on m, b, p, as a share of the rate in reconstructed true clips",
            bootstrap(_share_of_rates, made, true),
            Target(least=0.7),
        ),
        Number("closure_rate", "lips closed on m, b, p: rate", bootstrap(_rate, made)),
        Number("closure_rate_true", "the same in reconstructed clips", bootstrap(_rate, true)),
        Number(
            "closure_elsewhere",
            "lips closed where the speech opens them widely (should be rare)",
            bootstrap(mean, np.nan_to_num(np.array(shut), nan=1.0)),
        ),
    ]


def _rate(counts: np.ndarray) -> np.ndarray:
    sums = counts.sum(-2)
    return sums[..., 0] / np.maximum(sums[..., 1], 1)


def _share_of_rates(made: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _rate(made) / np.maximum(_rate(true), 1e-9)


def sweep(bench: Bench) -> list[Number]:
    """Both intensities, each at five levels, the other neutral."""
    rows = []
    for kind, other in (KINDS, KINDS[::-1]):
        found = {
            level: bench.made(swept_arm(kind, level), bench.swept)
            for level in sorted({*LEVELS, LOW, HIGH})
        }
        own, rest = (
            {level: intensities(clips, name) for level, clips in found.items()}
            for name in (kind, other)
        )
        asked = np.array(LEVELS)
        seen = np.stack([own[level] for level in LEVELS], -1)  # [clips, levels]
        within = motion.rank_correlation(np.broadcast_to(asked, seen.shape), seen)
        name = f"{kind} intensity"
        rows += [
            Number(
                f"{kind}_rank",
                f"{name}, asked for against measured over all clips, rank correlation",
                bootstrap(_pooled, seen, draws=500),
                Target(least=0.8),
            ),
            Number(
                f"{kind}_rank_within",
                f"{name}, the same within each face and speech, mean",
                bootstrap(mean, within),
            ),
            Number(
                f"{kind}_own",
                f"{name} measured at {HIGH:g} over at {LOW:g}",
                bootstrap(ratio, own[HIGH], own[LOW]),
                Target(least=2.0),
            ),
            Number(
                f"{kind}_other",
                f"{other} intensity when {kind} goes from {LOW:g} to {HIGH:g}, ratio",
                bootstrap(ratio, rest[HIGH], rest[LOW]),
                Target(least=0.8, most=1.25),
            ),
        ]
    return rows


def swept_arm(kind: str, level: float) -> Arm:
    """The arm of one level of a sweep; the neutral one is the main arm."""
    neutral = Arm(f"{kind}_{level:g}")
    return MAIN if level == 0.5 else dataclasses.replace(neutral, **{kind: level})


def intensities(found: Sequence[Measured], kind: str) -> np.ndarray:
    """Expression or body intensity of each clip."""
    return np.array([motion.intensity(TRACKS[kind](measured.tracks)) for measured in found])


def _pooled(seen: np.ndarray) -> np.ndarray:
    """Rank correlation with the levels over all clips and levels together, one per draw."""
    flat = seen.reshape(len(seen), -1)
    asked = np.broadcast_to(np.tile(LEVELS, seen.shape[1]), flat.shape)
    return motion.rank_correlation(asked, flat)


def recognised(bench: Bench) -> list[Number]:
    """Covered at first: whose face appears, with the identity branch and without it."""
    clips_of = {
        person: [case for case in bench.others if case.person == person and case.start == "open"]
        for person in sorted({case.person for case in bench.others})
    }
    people = [person for person, clips in clips_of.items() if len(clips) >= 2][:FACES]
    cases = [case for case in bench.hidden if case.person in people]
    # The picture of the face comes from a clip that the reference does not.
    told = Arm("covered", face=lambda case: clips_of[case.person][0])
    alone = Arm("covered_alone", without=("identity",))
    bench.gallery.generate(told, cases)
    bench.gallery.generate(alone, cases)
    references = [reference(bench, clips_of[person][1:5]) for person in people]
    expected = [people.index(case.person) for case in cases]
    meaning = f"identity among {len(people)} faces, last third of clips that start covered"
    rows = []
    for name, arm, what, target in (
        ("identity", told.name, meaning, Target(least=0.6)),
        ("identity_without", alone.name, "the same without the identity branch", None),
        ("identity_true", "true", "the same in the drawn clips", None),
    ):
        found = bench.gallery.measured(arm, cases)
        seen = [last_face(bench, arm, c, m) for c, m in zip(cases, found, strict=True)]
        hits = identity.nearest(np.array(seen), np.array(references)) == expected if seen else []
        rows.append(Number(name, what, bootstrap(mean, np.array(hits, np.float64)), target))
    return rows


def reference(bench: Bench, cases: Sequence[Case]) -> np.ndarray:
    """One embedding of a person from drawn clips."""
    found = bench.gallery.measured("true", cases)
    pairs = zip(cases, found, strict=True)
    faces = [bench.encoder.embed(bench.gallery.frames("true", c), m) for c, m in pairs]
    return identity.clip_embedding(np.concatenate(faces))


def last_face(bench: Bench, arm: str, case: Case, measured: Measured) -> np.ndarray:
    """Embedding of the face in the last third of a clip."""
    frames = bench.gallery.frames(arm, case)
    part = identity.last_third(len(frames))
    tracks = {name: track[part] for name, track in measured.tracks.items()}
    seen = Measured(tracks, measured.boxes[part], measured.visible[part])
    return identity.clip_embedding(bench.encoder.embed(frames[part], seen))


def jerk(bench: Bench) -> list[Number]:
    """Is generated motion as smooth as drawn motion of the same intensity?"""
    found = bench.made(MAIN, bench.pairs)
    true = bench.gallery.measured("true", bench.pairs)
    rows = []
    for kind in KINDS:
        made, drawn = (
            np.array([motion.jerk(TRACKS[kind](m.tracks), bench.fps) for m in clips])
            for clips in (found, true)
        )
        alike = motion.at_intensity(intensities(found, kind), intensities(true, kind), drawn)
        # Nothing measured is not smooth: such a clip counts as twice as jerky.
        made = np.where([measured_share(m) >= 0.5 for m in found], made, 2 * alike)
        rows.append(
            Number(
                f"jerk_{kind}",
                f"jerk of {kind} motion over that of true clips of the same intensity",
                bootstrap(ratio, made, alike),
                Target(most=1.0),
            )
        )
    return rows


ROWS: dict[str, Callable[[Bench], list[Number]]] = {
    "instrument": instrument,
    "base": base,
    "lips": generated_lips,
    "closure": closure,
    "sweep": sweep,
    "identity": recognised,
    "jerk": jerk,
}
