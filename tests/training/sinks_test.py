import struct
import sys
from types import SimpleNamespace

import pytest
from etils import epath

from ft_jax.errors import UsageError
from ft_jax.training import sinks


def events(folder) -> list:
    """(step, tag, value) of every number in the event files of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + size])
            place += 12 + size + 4
            for value in event.summary.value:
                found.append((event.step, value.tag, value.simple_value))
    return found


def test_tensorboard_holds_every_number(tmp_path):
    sink = sinks.TensorBoard(tmp_path, 0)
    sink.put(2, {"loss": 0.5, "goodput/share": 1.0})
    sink.put(4, {"loss": 0.25})
    sink.close()
    wanted = [(2, "loss", 0.5), (2, "goodput/share", 1.0), (4, "loss", 0.25)]
    assert events(tmp_path / "tensorboard") == wanted


def test_the_same_folder_continues_the_same_wandb_run(tmp_path, monkeypatch):
    calls, logged, finished = [], [], []

    def init(**options):
        calls.append(options)
        log = lambda numbers, step: logged.append((step, numbers))  # noqa: E731
        return SimpleNamespace(log=log, finish=lambda: finished.append(True))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for place in (tmp_path, tmp_path, tmp_path / "other"):
        sink = sinks.WeightsAndBiases("faces", epath.Path(place), tmp_path, {"seed": 1})
        sink.put(3, {"loss": 1.0})
        sink.close()
    ids = [call["id"] for call in calls]
    assert ids[0] == ids[1] != ids[2] and calls[0]["resume"] == "allow"
    assert calls[0]["project"] == "faces" and calls[0]["config"] == {"seed": 1}
    assert logged == [(3, {"loss": 1.0})] * 3 and len(finished) == 3


def test_wandb_that_is_not_there_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"config\.watch\.wandb: 'faces', but wandb is not"):
        sinks.WeightsAndBiases("faces", epath.Path(tmp_path), tmp_path, {})


def test_numbers_of_a_line_are_named_by_their_path():
    line = {"step": 3, "time": 9.0, "loss": 1, "held_out": {"loss": 2.0, "step": 4}, "host": "a"}
    assert sinks.flat(line) == {"loss": 1.0, "held_out/loss": 2.0, "held_out/step": 4.0}
