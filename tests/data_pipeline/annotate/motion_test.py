import numpy as np
import pytest

from data_pipeline.annotate import motion

LIPS, EYES = (0, 1, 2, 3), ((4, 5), (6, 7))
FRAMES = 33


def face(seed: int = 0, amount: float = 1.0) -> np.ndarray:
    """Forty points 40 pixels between the eyes, moving by themselves."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform(-60, 60, (40, 2)) + 200
    rest[4:8] = [[178, 180], [182, 180], [218, 180], [222, 180]]
    time = np.arange(FRAMES)[:, None, None] / 5
    own = np.sin(time + rng.uniform(0, 6, (40, 2))) * rng.uniform(0.5, 2, (40, 2))
    return rest + amount * own


def head_motion(points: np.ndarray, seed: int = 1) -> np.ndarray:
    """Moves, turns and enlarges each frame as a whole."""
    rng = np.random.default_rng(seed)
    angle, size = rng.normal(0, 0.3, len(points)), rng.uniform(0.7, 1.4, len(points))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1)
    moved = np.einsum("fij,fpj->fpi", turn.reshape(-1, 2, 2) * size[:, None, None], points)
    return moved + rng.normal(0, 30, (len(points), 1, 2))


def expression(points: np.ndarray) -> float:
    return motion.expression_raw(points, LIPS, EYES)


def test_head_motion_is_removed() -> None:
    still = np.repeat(face()[:1], FRAMES, 0)
    assert expression(head_motion(still)) == pytest.approx(0, abs=1e-12)
    # The size of the clip's mean shape is not quite the unit once frames differ in size.
    assert expression(head_motion(face())) == pytest.approx(expression(face()), rel=0.05)


def test_turning_head_is_not_an_expression() -> None:
    """Points on an ellipsoid that turns and nods, seen from the front."""
    rng = np.random.default_rng(0)
    flat = rng.uniform(-50, 50, (40, 2))
    flat[4:8] = [[-22, -20], [-18, -20], [18, -20], [22, -20]]
    solid = np.concatenate([flat, 80 - np.square(flat).sum(-1, keepdims=True) / 120], -1)
    yaw, nod = 0.12 * np.sin(np.arange(FRAMES) / 3), 0.08 * np.cos(np.arange(FRAMES) / 5)
    across = solid[:, 0] * np.cos(yaw)[:, None] + solid[:, 2] * np.sin(yaw)[:, None]
    down = solid[:, 1] * np.cos(nod)[:, None] + solid[:, 2] * np.sin(nod)[:, None]
    turned = np.stack([across, down], -1)
    aligned, _ = motion.align(turned[:, 4:])
    before = (aligned / 40).var(0).mean()
    assert expression(turned) < 0.02 * before
    frown = np.repeat(flat[None], FRAMES, 0)
    frown[:, 8:14, 1] += 3 * np.sin(np.arange(FRAMES) / 2)[:, None]
    assert expression(frown) > 0.5 * before


def test_resolution_does_not_matter() -> None:
    assert expression(face() * 3.7) == pytest.approx(expression(face()), rel=1e-9)
    joints = body()
    larger = joints * np.array([3.7, 3.7, 1])
    assert motion.body_raw(larger, (0, 1)) == pytest.approx(motion.body_raw(joints, (0, 1)))


def test_lips_do_not_count() -> None:
    talking = face()
    talking[:, LIPS] += np.random.default_rng(3).normal(0, 20, (FRAMES, 4, 2))
    assert expression(talking) == pytest.approx(expression(face()), rel=1e-9)


def test_lips_and_the_head_count_where_they_are_asked_to() -> None:
    still = np.repeat(face()[:1], FRAMES, 0)
    assert motion.expression_raw(head_motion(still), LIPS, EYES, head=True) > 0.1
    talking = still.copy()
    talking[:, LIPS, 1] += np.sin(np.arange(FRAMES))[:, None]
    assert expression(talking) < 1e-9 < motion.expression_raw(talking, (), EYES)


def test_expression_grows_with_the_square_of_the_motion() -> None:
    once, twice = expression(face(amount=0.2)), expression(face(amount=0.4))
    assert twice / once == pytest.approx(4, rel=0.02)


def test_unit_is_the_distance_of_the_eyes() -> None:
    """One point of twelve that swings by a tenth of the eye distance, far from everything."""
    points = np.zeros((40, 12, 2))
    points[:, 4:8] = [[-20, 0], [-20, 0], [20, 0], [20, 0]]
    points[:, 8:11] = [[-900, 0], [900, 0], [0, -900]]  # hold the alignment in place
    points[:, 11] = [0, 900]
    points[:, 11, 0] += 4 * np.tile([1, -1], 20)
    variance = 0.1**2 / (8 * 2)  # of one coordinate among eight points
    assert expression(points) == pytest.approx(variance, rel=0.5)


def test_frames_without_a_face_and_unknown_points_are_skipped() -> None:
    points = face()
    points[:, 39] = np.nan
    alone = expression(np.delete(points, 39, axis=1))
    assert expression(points) == pytest.approx(alone, rel=1e-9)
    points[10:20] = np.nan
    shown = np.concatenate([points[:10], points[20:]])
    assert expression(points) == pytest.approx(expression(shown), rel=1e-9)
    points[3:] = np.nan
    assert np.isnan(expression(points))


def body() -> np.ndarray:
    time = np.arange(FRAMES) / 4
    joints = np.ones((FRAMES, 4, 3))
    joints[..., :2] = [[100, 300], [300, 300], [200, 150], [0, 0]]
    joints[:, 2, 0] += 20 * np.sin(time)
    joints[:, 3, 2] = 0
    return joints


def test_body_is_in_shoulder_widths_and_ignores_hidden_joints() -> None:
    wanted = np.var(0.1 * np.sin(np.arange(FRAMES) / 4)) / 6
    assert motion.body_raw(body(), (0, 1)) == pytest.approx(wanted, rel=1e-6)
    wild = body()
    wild[:, 3, :2] = np.random.default_rng(0).normal(0, 1000, (FRAMES, 2))
    assert motion.body_raw(wild, (0, 1)) == pytest.approx(wanted, rel=1e-6)
    wild[:, 0, 2] = 0
    assert np.isnan(motion.body_raw(wild, (0, 1)))


def test_a_joint_counts_in_the_frames_that_show_it() -> None:
    joints = body()
    joints[:12, 2, 2] = 0
    joints[:12, 2, :2] = np.nan
    wanted = np.var(0.1 * np.sin(np.arange(12, FRAMES) / 4)) / 6
    assert motion.body_raw(joints, (0, 1)) == pytest.approx(wanted, rel=1e-6)
