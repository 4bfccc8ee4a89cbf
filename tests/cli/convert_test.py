"""The command: published files in, a clip out of them, published files back; and what it refuses.

All runs share one process, for each would import JAX again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import load_file, save_file

from ft_jax.checkpoints import bundle, handover
from ft_jax.checkpoints.tree import flatten
from ft_jax.config import to_dict
from tests.convert import published

ROOT = Path(__file__).parents[2]
DRIVER = """
import contextlib, io, json, resource, sys
from absl.testing import flagsaver
from ft_jax.cli import convert, entry

results = []
for arguments in json.loads(sys.stdin.read()):
    limit = -1
    if arguments[0].startswith("disk="):
        limit = int(arguments.pop(0).partition("=")[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    sys.argv = ["convert", *arguments]
    said, wrong, code = io.StringIO(), io.StringIO(), None
    with flagsaver.flagsaver(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        try:
            entry.run(convert.main)
        except SystemExit as left:
            code = left.code
    results.append([code, said.getvalue(), wrong.getvalue()])
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
print(json.dumps(results))
"""
ALL = {
    "denoiser": ("wan", "wan"),
    "speech": ("fantasytalking", "ft.ckpt"),
    "vae": ("vae", "Wan2.1_VAE.pth"),
    "text": ("umt5", "t5.pth"),
    "image": ("clip_hf", "image_encoder"),
    "wav2vec2": ("wav2vec2_weight_g", "wav2vec2"),
    "face": ("arcface", "face.pth"),
    "sync": ("syncnet", "syncnet.pth"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of published weights, and of weights that something is wrong with."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "good").mkdir()
    for name, path in ALL.values():
        published.write(name, folder / "good" / path, 30_000)
    published.write("lora_comfyui", folder / "lora.safetensors")
    bundle.save(
        folder / "ours.safetensors",
        to_dict(published.system()),
        {"codec": published.params("bfloat16")["codec"]},
    )
    whole = {k: x for p in (folder / "good" / "wan").glob("*.safetensors") for k, x in
             load_file(p).items()}  # fmt: skip
    video = {k: x for k, x in whole.items() if "img" not in k}
    video["patch_embedding.weight"] = video["patch_embedding.weight"][:, :16].copy()
    save_file(video, folder / "t2v.safetensors")
    small = {
        key: torch.from_numpy(x).to(torch.float8_e4m3fn if x.ndim == 2 else torch.float32)
        for key, x in whole.items()
    }
    safetensors.torch.save_file(small, folder / "fp8.safetensors")
    data = (folder / "t2v.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(data[: len(data) // 2])
    (folder / "link.safetensors").symlink_to("gone.safetensors")
    (folder / "taken").mkdir()
    return folder


MEANS = "(" + "9.0," * 16 + ")"
MADE = "import --out={d}/out"
BAD: dict[str, tuple[str, str]] = {
    "no command": ("", "no command: unknown; expected import or export"),
    "no sources": (MADE, "ft_jax.cli.convert: no weights; expected files or folders to import"),
    "no out": ("import {d}/good", "--out: not given; expected a folder to write"),
    "out is there": (
        "import --out={d}/taken {d}/good",
        "{d}/taken: exists; expected the name of a new folder",
    ),
    "text to video": (
        MADE + " {d}/t2v.safetensors",
        "{d}/t2v.safetensors: holds a Wan DiT for text to video, 2 blocks of width 24; expected a "
        "Wan DiT for image to video, 2 blocks of width 24",
    ),
    "fp8 without scales": (
        MADE + " {d}/fp8.safetensors",
        "{d}/fp8.safetensors: 32 of 87 tensors are fp8 without a scale, such as "
        "blocks.0.cross_attn.k.weight; expected one named scale_weight or weight_scale beside each",
    ),
    "truncated": (
        MADE + " {d}/good {d}/half.safetensors",
        "{d}/half.safetensors: damaged (Error while deserializing header: incomplete metadata, "
        "file not fully covered); expected a safetensors file",
    ),
    "dangling link": (
        MADE + " {d}/link.safetensors",
        "{d}/link.safetensors: a link to gone.safetensors, which is gone; expected a file",
    ),
    "part given twice": (
        MADE + " {d}/ours.safetensors {d}/good/Wan2.1_VAE.pth",
        "{d}/good/Wan2.1_VAE.pth: holds codec, as {d}/ours.safetensors does; expected one of them",
    ),
    "parts that do not fit": (
        MADE + " --config.codec.channels=8 --config.denoiser.dit.latent_channels=8 "
        "{d}/ours.safetensors",
        "system: denoiser.dit.latent_channels is 8 and codec.channels is 16; expected parts that "
        "fit each other",
    ),
    "no published form": (
        MADE + " --config.text.projection=16 {d}/good/t5.pth",
        "config.text: has no form in umt5 (the UMT5 encoder: projection/kernel has 0 rows); "
        "expected a network of the published kind",
    ),
    "no space": (
        "disk=4000 " + MADE + " {d}/good",
        "{d}/out: File too large; expected a folder to write to",
    ),
    "no weights to export": (
        "export --format=vae --out={d}/x.pth",
        "--weights: not given; expected a folder of weights, a bundle or a run",
    ),
    "no such format": (
        "export --format=gguf --weights={d}/ours.safetensors --out={d}/x",
        "--format=gguf: unknown; expected one of wan, wan_comfyui, ",
    ),
    "no such part": (
        "export --format=wan --weights={d}/ours.safetensors --out={d}/out",
        "--format=wan: the weights have no part denoiser/dit",
    ),
    "other ending": (
        "export --format=vae --weights={d}/ours.safetensors --out={d}/x.onnx",
        "{d}/x.onnx: ends in .onnx; expected .pth or .pt or .ckpt or .bin",
    ),
    "a file for a folder": (
        "export --format=vae_diffusers --weights={d}/ours.safetensors --out={d}/x.safetensors",
        "{d}/x.safetensors: vae_diffusers is a folder; expected a name without .safetensors",
    ),
    "no space for an export": (
        "disk=4000 export --format=vae_diffusers --weights={d}/ours.safetensors --out={d}/out",
        "{d}/out: File too large; expected a place to write to",
    ),
    "no space for a file of PyTorch": (
        "disk={size} export --format=vae --weights={d}/ours.safetensors --out={d}/x.pth",
        "{d}/x.pth: No space left on device; expected a place to write to",
    ),
}


def run(*commands: str, d: Path) -> list[Any]:
    """[exit code, stdout, stderr] of each command line."""
    given = []
    for command in commands:
        # Room for the tensors, not for all that PyTorch adds to them.
        words = command.format(d=d, size=(d / "ours.safetensors").stat().st_size).split()
        first = 1 if words and words[0].startswith("disk=") else 0
        at = first + 1
        is_import = words[first : first + 1] == ["import"]
        given.append(words[:at] + published.FLAGS + words[at:] if is_import else words)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([words or ["--shard_gb=1"] for words in given]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_cannot_be_used_is_one_line_and_leaves_nothing(files: Path):
    before = sorted(files.rglob("*"))
    done = run(*(command for command, _ in BAD.values()), d=files)
    for (name, (_, line)), (code, said, wrong) in zip(BAD.items(), done, strict=True):
        assert (code, said, wrong.count("\n")) == (2, "", 1), (name, said, wrong)
        expected = f"ft_jax: {line.format(d=files)}"
        got = wrong[: len(expected)] if line.endswith(" ") else wrong.rstrip()
        assert (name, got) == (name, expected)
    assert sorted(files.rglob("*")) == before


def test_published_weights_come_in_and_go_out_again(files: Path, tmp_path: Path):
    wanted = flatten(published.params())
    first, second, out = run(
        f"import --out={tmp_path}/w {{d}}/good",
        # Settings come with the parts that have them: the mean of latents is no size.
        f"import --out={tmp_path}/half --dtype=bfloat16 --config.codec.mean={MEANS} {tmp_path}/w",
        f"export --weights={tmp_path}/w --format=wan_diffusers --shard_gb=0.00003 "
        f"--out={tmp_path}/back",
        d=files,
    )
    assert [first[0], second[0], out[0]] == [0, 0, 0], (first, second, out)
    assert first[1].startswith(
        f"{tmp_path}/w: codec, denoiser/audio, denoiser/dit, face, image, speech, sync, text; "
    )
    read = handover.read(tmp_path / "w")
    assert read.system["denoiser"]["identity"] is read.system["denoiser"]["motion"] is None
    assert read.system["denoiser"]["audio"] is not None
    branches = ("denoiser/identity/", "denoiser/motion/")
    leaves = flatten(read.parts)
    assert set(leaves) == {path for path in wanted if not path.startswith(branches)}
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, wanted[path], strict=True)
    assert handover.read(tmp_path / "half").system == read.system
    for path, leaf in flatten(handover.read(tmp_path / "half").parts).items():
        half = wanted[path].astype(np.dtype("bfloat16"))
        np.testing.assert_array_equal(leaf, half, strict=True)
    # Beside the shards an index, the settings, and the program for diffusers.
    shards = len(list((tmp_path / "back").glob("*.safetensors")))
    assert shards > 2 and out[1] == f"{tmp_path}/back: wan_diffusers, {shards + 3} files\n"


def test_a_clip_file_comes_back_whole_also_over_a_second_import(files: Path, tmp_path: Path):
    state = torch.load(published.write("clip", tmp_path / "clip.pth"))
    state |= {"log_scale": torch.tensor(2.5), "textual.head.0.weight": torch.ones(2, 3)}
    torch.save(state, tmp_path / "whole.pth")
    done = run(
        f"import --config.image.projection=0 --out={tmp_path}/w {tmp_path}/whole.pth",
        f"import --config.image.projection=0 --out={tmp_path}/again {tmp_path}/w",
        f"export --weights={tmp_path}/again --format=clip --out={tmp_path}/back.pth",
        f"export --weights={tmp_path}/again --format=clip_hf --out={tmp_path}/hf",
        d=files,
    )
    assert [code for code, _, _ in done] == [0] * 4, done
    back = torch.load(tmp_path / "back.pth")
    assert back.keys() == state.keys()
    for key, tensor in state.items():
        assert torch.equal(back[key], tensor) and back[key].shape == tensor.shape, key
    assert done[2][1] == f"{tmp_path}/back.pth: clip, 1 file\n"
    assert done[3][1].splitlines()[1] == (
        f"{tmp_path}/hf: without the tensors that nothing here reads, as the weights did not come "
        "from a file of clip_hf; PyTorch needs strict=False"
    )


def test_a_lora_brings_its_settings_and_is_merged_where_there_is_no_place_for_it(
    files: Path, tmp_path: Path
):
    done = run(
        f"import --out={tmp_path}/w {{d}}/good/wan {{d}}/lora.safetensors",
        f"import --out={tmp_path}/again {tmp_path}/w",
        f"export --weights={tmp_path}/again --format=lora_comfyui --out={tmp_path}/x.safetensors",
        f"export --weights={tmp_path}/w --format=wan --out={tmp_path}/back",
        d=files,
    )
    assert [code for code, _, _ in done] == [0] * 4, done
    assert (tmp_path / "x.safetensors").read_bytes() == (files / "lora.safetensors").read_bytes()
    assert done[3][1] == f"{tmp_path}/back: wan, 3 files, LoRA merged\n"
    key = "blocks.0.ffn.0.weight"
    kept, merged = (
        next(
            tensors[key]
            for tensors in map(load_file, where.glob("*.safetensors"))
            if key in tensors
        )
        for where in (files / "good" / "wan", tmp_path / "back")
    )
    assert np.any(merged != kept)
    read = handover.read(tmp_path / "w")
    assert read.system["denoiser"]["lora"]["alpha"] == 3.0
    assert {path.split("/")[1] for path in flatten(read.parts)} == {"dit", "lora"}
