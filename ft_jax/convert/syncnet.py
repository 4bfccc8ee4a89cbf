"""SyncNet state dict (`syncnet_v2.model`) <-> ft_jax/models/syncnet.py.

torch numbers layers inside its sequences: convolution, norm and ReLU take a number each, and so
does a pooling, the one of size 1 behind the first convolution over the cepstrum too.

Tests: tests/models/syncnet_test.py (published keys), tests/parity/syncnet_parity_test.py.
"""

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table, Transform

# Number of each convolution in its sequence; the norm is the next.
_CONVOLUTIONS = (0, 4, 8, 11, 14, 18)
_NAMES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_LINEAR = (("0", "hidden"), ("3", "out"))

# [o 3 t h w] <-> [h w (t 3) o]: the frames are side by side in the channels here.
_FRAMES_IN_CHANNELS = Transform(
    "frames in channels",
    lambda x: x.transpose(3, 4, 2, 1, 0).reshape(*x.shape[3:], -1, x.shape[0]),
    lambda x: x.reshape(*x.shape[:2], -1, 3, x.shape[3]).transpose(4, 3, 2, 0, 1),
)
# The other convolutions over the lips have one tap in time.
_ONE_FRAME = Transform(
    "one frame",
    lambda x: x[:, :, 0].transpose(2, 3, 1, 0),
    lambda x: x.transpose(3, 2, 0, 1)[:, :, None],
)


def _norm(key: str, path: str) -> list[Row]:
    return [Row(f"{key}.{theirs}", f"{path}/{ours}") for theirs, ours in _NAMES.items()]


def _stream(ours: str, theirs: str) -> list[Row]:
    rows = []
    for index, number in enumerate(_CONVOLUTIONS):
        kind = table.CONV2D
        if ours == "lips":
            kind = _ONE_FRAME if index else _FRAMES_IN_CHANNELS
        key = f"netcnn{theirs}.{number}"
        rows.append(Row(f"{key}.weight", f"{ours}/conv_{index}/kernel", kind))
        rows.append(Row(f"{key}.bias", f"{ours}/conv_{index}/bias"))
        rows += _norm(f"netcnn{theirs}.{number + 1}", f"{ours}/norm_{index}")
    for number, name in _LINEAR:
        key = f"netfc{theirs}.{number}"
        rows.append(Row(f"{key}.weight", f"{ours}/{name}/kernel", table.LINEAR))
        rows.append(Row(f"{key}.bias", f"{ours}/{name}/bias"))
    return [*rows, *_norm(f"netfc{theirs}.1", f"{ours}/hidden_norm")]


SYNCNET = Table(
    "SyncNet", (*_stream("audio", "aud"), *_stream("lips", "lip")), (r".*num_batches_tracked",)
)
