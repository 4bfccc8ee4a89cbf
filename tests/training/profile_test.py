import jax
import pytest

from ft_jax.errors import UsageError
from ft_jax.training.profile import Profile


@pytest.fixture
def traces(monkeypatch) -> list:
    calls: list = []
    monkeypatch.setattr(jax.profiler, "start_trace", calls.append)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    return calls


def steps(profile: Profile, traces: list, numbers: range) -> list:
    told = []
    for number in numbers:
        profile.before(number)
        told += [(number, call) for call in traces]
        traces.clear()
    profile.close()
    return told + [("end", call) for call in traces]


def profile(tmp_path, first: int, last: int, traces: list) -> Profile:
    return Profile(tmp_path, (first, last), lambda: traces.append("settle"))


def test_the_steps_that_were_asked_for_are_traced_and_no_other(tmp_path, traces):
    place = str(tmp_path / "profile")
    told = steps(profile(tmp_path, 2, 4, traces), traces, range(6))
    assert told == [(2, "settle"), (2, place), (4, "settle"), (4, "stop")]
    assert steps(profile(tmp_path, 0, 0, traces), traces, range(3)) == []


def test_a_run_that_ends_or_resumes_within_them_traces_what_there_is(tmp_path, traces):
    place = str(tmp_path / "profile")
    told = steps(profile(tmp_path, 2, 9, traces), traces, range(3, 5))
    assert told == [(3, "settle"), (3, place), ("end", "stop")]
    traces.clear()
    assert steps(profile(tmp_path, 2, 4, traces), traces, range(4, 6)) == []


@pytest.mark.parametrize("wrong", [(4, 2), (-1, 3)])
def test_steps_out_of_order_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match=r"watch\.profile"):
        profile(tmp_path, *wrong, [])
