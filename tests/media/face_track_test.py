"""Which frames are shown at 25 a second, and which square of them is cut out."""

import fractions

import av
import av.filter
import numpy as np
import pytest

from ft_jax.media import face_track

GRAY = av.VideoFormat("gray")


def by_ffmpeg(frames: int, fps: fractions.Fraction) -> list[int]:
    """Numbers of the frames that ffmpeg's own filter gives at 25 a second."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format=GRAY, time_base=1 / fps)
    rate, sink = graph.add("fps", "fps=25"), graph.add("buffersink")
    source.link_to(rate)
    rate.link_to(sink)
    graph.configure()
    for number in range(frames):
        picture = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
        picture.pts, picture.time_base = number, 1 / fps
        picture.duration = 1
        graph.push(picture)
    graph.push(None)
    seen = []
    while True:
        try:
            seen.append(int(graph.pull().to_ndarray()[0, 0]))
        except (av.EOFError, av.BlockingIOError):
            return seen


@pytest.mark.parametrize("fps", ["23", "24", "25", "30", "30000/1001", "24000/1001", "50", "16"])
def test_the_frames_shown_at_25_are_those_of_ffmpeg(fps: str):
    rate = fractions.Fraction(fps)
    for frames in (33, 81):
        found = face_track.at_25(frames, float(rate))
        assert found.tolist() == by_ffmpeg(frames, rate)


def test_frames_at_25_stay_as_they_are():
    np.testing.assert_array_equal(face_track.at_25(81, 25.0), np.arange(81))


BOX = (100.0, 80.0, 140.0, 130.0)  # 40 wide, 50 high: half is 25, the middle (120, 105)


def clip(frames: int = 30) -> np.ndarray:
    """Each pixel says its column, its row and its frame."""
    pixels = np.zeros((frames, 240, 256, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(256), np.arange(240)[:, None]
    pixels[..., 2] = np.arange(frames)[:, None, None]
    return pixels


def test_the_square_reaches_further_down_and_to_both_sides():
    found = face_track.track(clip(), np.tile(BOX, (30, 1)))
    assert found is not None and found.start == 0 and found.crops.shape == (30, 224, 224, 3)
    crop = found.crops[15]
    # Rows 105 - 25 to 105 + 45, columns 120 -+ 35.
    assert [crop[0, 0, 1], crop[-1, 0, 1]] == [80, 149]
    assert [crop[0, 0, 0], crop[0, -1, 0]] == [85, 154]
    np.testing.assert_array_equal(found.crops[:, 5, 5, 2], np.arange(30))


def test_a_square_beyond_the_picture_is_grey_there():
    boxes = np.tile((-20.0, 200.0, 20.0, 240.0), (30, 1))
    found = face_track.track(clip(), boxes)
    assert found is not None
    crop = found.crops[15]
    assert (crop[:, 0] == 110).all() and (crop[-1] == 110).all()
    assert crop[20, -1, 0] == 27


def test_a_single_jump_of_the_box_is_smoothed_away_and_gaps_are_filled():
    boxes = np.tile(BOX, (30, 1))
    usual = face_track.track(clip(), boxes)
    boxes[14] += 60
    boxes[20] = np.nan
    found = face_track.track(clip(), boxes)
    assert usual is not None and found is not None
    np.testing.assert_array_equal(found.crops, usual.crops)


def test_a_track_begins_with_the_first_box_and_ends_with_the_last():
    boxes = np.tile(BOX, (30, 1))
    boxes[:4], boxes[25:] = np.nan, np.nan
    found = face_track.track(clip(), boxes)
    assert found is not None and found.start == 4 and len(found.crops) == 21
    assert found.crops[0, 0, 0, 2] == 4


@pytest.mark.parametrize("seen", [0, 12])
def test_few_frames_are_no_track(seen: int):
    boxes = np.full((30, 4), np.nan)
    boxes[:seen] = BOX
    assert face_track.track(clip(), boxes) is None
