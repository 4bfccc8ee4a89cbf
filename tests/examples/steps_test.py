import io
import sys
import time

import pytest

from examples.steps import Failed, Step, Steps, _left


def steps(tmp_path, count=3) -> Steps:
    return Steps(tmp_path, count, io.StringIO())


def test_what_is_done_is_not_done_again(tmp_path):
    ran = []
    first = steps(tmp_path)
    first.call(Step("one", "first", 1, "settings"), lambda report: ran.append(1))
    second = steps(tmp_path)
    second.call(Step("one", "first", 1, "settings"), lambda report: ran.append(1))
    assert ran == [1] and second.reused == 1 and "one" in second.seconds


def test_other_settings_or_missing_results_run_again(tmp_path):
    ran = []
    made = tmp_path / "made"

    def work(report):
        ran.append(1)
        made.touch()

    steps(tmp_path).call(Step("one", "", 1, "a", makes=[made]), work)
    steps(tmp_path).call(Step("one", "", 1, "b", makes=[made]), work)
    made.unlink()
    steps(tmp_path).call(Step("one", "", 1, "b", makes=[made]), work)
    assert len(ran) == 3


def test_a_step_runs_again_when_an_earlier_one_changed(tmp_path):
    ran = []
    for setting in ("a", "a", "b"):
        runner = steps(tmp_path)
        runner.call(Step("one", "", 1, setting), lambda report: None)
        runner.call(Step("two", "", 1, "same", after=["one"]), lambda report: ran.append(1))
    assert len(ran) == 2


def test_what_another_run_left_is_removed_before_a_step_and_only_then(tmp_path):
    folder = tmp_path / "run"
    (folder / "old").mkdir(parents=True)
    step = Step("one", "", 1, "a", makes=[folder], clears=[folder])
    steps(tmp_path).call(step, lambda report: folder.mkdir())
    assert not (folder / "old").exists()
    (folder / "kept").touch()
    steps(tmp_path).call(step, lambda report: None)
    assert (folder / "kept").exists()


def test_a_step_that_fails_is_not_remembered(tmp_path):
    def fail(report):
        raise OSError("no")

    with pytest.raises(OSError):
        steps(tmp_path).call(Step("one", "", 1, ""), fail)
    assert "one" not in steps(tmp_path).seconds


def test_a_failing_command_says_what_it_said(tmp_path):
    command = [sys.executable, "-c", "import sys; print('culprit: wrong'); sys.exit(2)"]
    with pytest.raises(Failed, match="ended with 2:\nculprit: wrong"):
        steps(tmp_path).run(Step("one", "", 1, ""), command, {})


def test_a_command_ends_with_the_one_that_is_told_to_stop(tmp_path):
    told = {}

    def stop(process, log, report):
        told["process"] = process
        raise SystemExit(143)

    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("examples.steps._follow", stop)
        steps(tmp_path).run(Step("one", "", 1, ""), command, {})
    assert told["process"].returncode is not None
    assert "one" not in steps(tmp_path).seconds


def test_progress_of_a_command_is_read_from_its_output(tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr("examples.steps._follow", _recording(shares))
    code = "print('world:  50%|####  | 4/8 [00:01', end='\\r'); print('clip: step 6/8  loss 1')"
    steps(tmp_path).run(Step("one", "", 1, ""), [sys.executable, "-c", code], {"A": "1"})
    assert shares == [0.5, 0.75]
    assert "step 6/8" in (tmp_path / "logs" / "one.txt").read_text()


def _recording(shares):
    from examples import steps

    follow = steps._follow
    return lambda process, log, report: follow(process, log, shares.append)


def test_estimate_uses_the_rate_once_it_is_known():
    assert _left(4, [(0, 0)], usual=10) == 6
    assert _left(20, [(0, 0)], usual=10) == 4
    assert _left(12, [(0, 0), (10, 0.1), (12, 0.3)], usual=99) == pytest.approx(7)
    assert _left(13, [(0, 0), (10, 0.1), (12, 0.3)], usual=99) == pytest.approx(6)


def test_a_bar_with_an_estimate_is_drawn_on_a_terminal(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    Steps(tmp_path, 2, screen).call(Step("one", "working", 5, ""), lambda report: time.sleep(0))
    assert "[1/2] working" in screen.getvalue() and "about 5 s left" in screen.getvalue()
