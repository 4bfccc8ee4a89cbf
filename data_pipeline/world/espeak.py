"""Text to speech with phoneme timings, through the optional eSpeak NG library.

In: text and a voice. Out: 16 kHz samples and one (phoneme, stress, start, end) row per sound.
The one idea: eSpeak reports each phoneme as an event with its sample position, so the timings
are exact and no aligner is needed. The library (package espeakng-loader, GPL) is an extra: it is
imported only when somebody synthesises, never to use the embedded speech.

Invariants: rows are in order, without gaps, from 0 to the end of the samples. eSpeak keeps state
between sentences, so only a fresh process repeats itself bit for bit (see make_speech.py).

Source: eSpeak NG speak_lib.h (espeak_EVENT, espeakEVENT_PHONEME).
Tests: none here (an extra); what it made is guarded by speech_test.py on the asset.
"""

import ctypes
import dataclasses

import numpy as np
from jaxtyping import Float

from data_pipeline.world import phonemes
from ft_jax.errors import UsageError

SAMPLE_RATE = 16_000
_PHONEME_EVENT = 7
_SYNCHRONOUS = 2
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
# A voiceless stop's event comes with its burst; the closed lips before it are silent.
_CLOSURE = {phonemes.INDEX[name]: 0.050 for name in ("p", "t", "k", "ch")}


@dataclasses.dataclass(frozen=True)
class Voice:
    """One speaker: an eSpeak voice with its variant and habits."""

    name: str  # ours
    espeak: str  # language+variant
    rate: int  # words per minute
    pitch: int  # 0-99
    pitch_range: int  # 0-99


VOICES: tuple[Voice, ...] = (
    Voice("anna", "en-us+f2", 132, 58, 60),
    Voice("bella", "en-us+f4", 140, 48, 50),
    Voice("carl", "en-us+m1", 128, 42, 55),
    Voice("dan", "en-us+m3", 140, 34, 60),
    Voice("eric", "en-us+m7", 134, 50, 45),
    Voice("fay", "en-us+f5", 126, 66, 65),
    Voice("gus", "en-us+m4", 144, 26, 50),
    Voice("heldout_hope", "en-us+f3", 136, 52, 55),
)
HELD_OUT_VOICE = VOICES[-1].name

Row = tuple[int, int, float, float]  # class, stress, start s, end s


class _Id(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Synthesiser:
    """The loaded library; one per process."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
          UsageError: when the extra is not installed.
        """
        try:
            import espeakng_loader
        except ImportError as error:
            raise UsageError(
                "espeakng-loader: not installed; it is needed to synthesise more speech "
                "(the embedded speech needs nothing)"
            ) from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 1)
        self._samples: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._receive)  # kept alive as long as the library
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, events) -> int:
        if samples and count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != 0:
            if events[i].type == _PHONEME_EVENT:
                self._events.append((events[i].sample, events[i].id.string.decode()))
            i += 1
        return 0

    def say(self, text: str, voice: Voice) -> tuple[Float[np.ndarray, " samples"], list[Row]]:
        """Speak one sentence: (float32 samples at 16 kHz in [-1, 1], phoneme rows)."""
        self._samples.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(voice.espeak.encode()) != 0:
            raise UsageError(f"{voice.espeak}: no such eSpeak voice")
        for parameter, value in (
            (_RATE, voice.rate),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
        self._library.espeak_Synchronize()
        raw = np.concatenate(self._samples).astype(np.float32) / 32768
        rows = _rows(self._events, self._rate, len(raw) / self._rate)
        return _resample(raw, self._rate), rows


def _rows(events: list[tuple[int, str]], rate: int, duration: float) -> list[Row]:
    starts: list[tuple[float, tuple[int, ...], int]] = []
    for sample, name in events:
        classes, stress = phonemes.from_espeak(name)
        start = sample / rate - _CLOSURE.get(classes[0], 0.0)
        start = max(start, starts[-1][0] + 0.02 if starts else 0.0)
        starts.append((min(start, duration), classes, stress))
    starts[0] = (0.0, *starts[0][1:])
    rows: list[Row] = []
    ends = [start for start, _, _ in starts[1:]] + [duration]
    for (start, classes, stress), end in zip(starts, ends, strict=True):
        cuts = np.linspace(start, max(end, start), len(classes) + 1)
        for i, label in enumerate(classes):
            rows.append((label, stress if i == 0 else 0, float(cuts[i]), float(cuts[i + 1])))
    return [row for row in rows if row[3] > row[2]]


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    pieces = [part.to_ndarray()[0] for part in resampler.resample(frame)]
    pieces += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(pieces)
