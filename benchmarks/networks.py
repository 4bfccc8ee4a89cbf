"""Our networks against the PyTorch classes on the same weights: seconds, their ratio, memory.

    python -m benchmarks.networks                     prints the table
    python -m benchmarks.networks --write             also into benchmarks/RESULTS.md
    python -m benchmarks.networks --only VAE --repeat 9

Both sides run in turns in this process, in float32, on the device that JAX has (PyTorch on a GPU
where it sees one) and with all cores; medians count. Before anything is timed the outputs are
compared, so that both did the same work. Sizes: heads, taps and proportions of the released
models, widths and depths that two cores can take.

Memory on a CPU: how far the resident set rises above what lay there before the run (weights and
inputs), once per side. On other devices: what XLA's plan of buffers says, and PyTorch's counter.
"""

import argparse
import ctypes
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import results, timing
from ft_jax.convert import table, umt5, wan_dit, wan_vae
from ft_jax.convert import wav2vec2 as speech_tables
from ft_jax.kernels import attention
from ft_jax.models import dit, fantasy, text, vae, wav2vec2

TITLE = "Networks against PyTorch"
TOLERANCE = 1e-3  # of the largest value: the same work, not parity (tests/parity has that)
DIT = dit.Config(
    width=768, layers=2, heads=6, mlp_width=2048, text_width=1024, image_width=320,
    precision="parity",
)  # fmt: skip
GRID, IMAGE_TOKENS = (5, 32, 32), 257  # latents: 1280 tokens; 769 keys with the text
CODEC = vae.Config(width=32)
CLIP, LATENTS = (9, 96, 96), (3, 12, 12)
TEXT = text.Config("bytes", rows=1024, width=1024, layers=4, heads=16, mlp_width=2560)
PROMPT = 256  # tokens
SPEECH = wav2vec2.Config()
SAMPLES = 56_347  # 81 frames at 23 a second


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: what both sides compute, and how often PyTorch's time ours may take.

    Attributes:
      name: As the table says it.
      goal: Largest ratio of the seconds that is aimed at on a CPU.
      ours: A function of `inputs`, to be compiled; of several results the first is compared.
      inputs: Arrays.
      theirs: Runs PyTorch and gives its result.
      arranged: Brings PyTorch's result to our layout.
    """

    name: str
    goal: float
    ours: Callable[..., Any]
    inputs: tuple[Any, ...]
    theirs: Callable[[], Any]
    arranged: Callable[[np.ndarray], np.ndarray] = lambda x: x


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values in float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def last(x: np.ndarray) -> np.ndarray:
    """Channels from the second place, where torch has them, to the end."""
    return np.moveaxis(x, 1, -1)


def torch_device() -> Any:
    """The GPU, where JAX runs on one and this PyTorch can; else the CPU."""
    import torch

    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def tensor(x: np.ndarray) -> Any:
    """On PyTorch's device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x)).to(torch_device())


def shared(model: Any, naming: table.Table, abstract: Any) -> tuple[Any, Any]:
    """The model ready to run, and its weights as our parameters."""
    tensors = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    if any("parametrizations" in key for key in tensors):
        tensors = speech_tables.fold(tensors)
    params = table.to_params(naming, tensors, abstract)
    return model.to(torch_device()).eval(), jax.tree.map(jnp.asarray, params)


def without_gradient(run: Callable[[], Any]) -> Callable[[], Any]:
    """The run as inference does it."""
    import torch

    def inner() -> Any:
        with torch.inference_mode():
            return run()

    return inner


def dit_rows() -> Iterator[Row]:
    """Velocity, and its gradient to the latents and to all weights."""
    import torch
    from diffusers import WanTransformer3DModel

    cfg = fantasy.Config(DIT, None, None, None)
    torch.manual_seed(0)
    model, params = shared(
        WanTransformer3DModel(
            num_attention_heads=DIT.heads,
            attention_head_dim=DIT.head_width,
            in_channels=2 * DIT.latent_channels + dit.MASK_CHANNELS,
            out_channels=DIT.latent_channels,
            text_dim=DIT.text_width,
            ffn_dim=DIT.mlp_width,
            num_layers=DIT.layers,
            image_dim=DIT.image_width,
            added_kv_proj_dim=DIT.width,
        ),
        wan_dit.DIFFUSERS,
        fantasy.abstract_params(cfg),
    )
    latents = drawn(1, *GRID, DIT.latent_channels)
    extra = drawn(1, *GRID, DIT.latent_channels + dit.MASK_CHANNELS, seed=1)
    words = drawn(1, DIT.text_tokens, DIT.text_width, seed=2)
    picture = drawn(1, IMAGE_TOKENS, DIT.image_width or 0, seed=3)
    given = fantasy.Conditions(*map(jnp.asarray, (extra, picture, words)))
    whole = np.moveaxis(np.concatenate([latents, extra], -1), -1, 1)
    fixed = torch.full((1,), 500.0, device=torch_device()), tensor(words), tensor(picture)

    def velocity(params: Any, latents: jax.Array) -> jax.Array:
        return fantasy.apply(params, cfg, latents, jnp.full(1, 0.5), given)

    def gradient(params: Any, latents: jax.Array) -> tuple[jax.Array, Any]:
        loss = lambda *x: jnp.square(velocity(*x)).sum()  # noqa: E731
        by_params, by_latents = jax.grad(loss, (0, 1))(params, latents)
        return by_latents, by_params

    def their_gradient() -> Any:
        model.zero_grad()
        x = tensor(whole).requires_grad_()
        model(x, *fixed).sample.square().sum().backward()
        return x.grad[:, : DIT.latent_channels]

    inputs = params, jnp.asarray(latents)
    forward = without_gradient(lambda: model(tensor(whole), *fixed).sample)
    yield Row("DiT forward", 1.0, velocity, inputs, forward, last)
    yield Row("DiT forward and backward", 1.5, gradient, inputs, their_gradient, last)


def attention_rows() -> Iterator[Row]:
    """The self-attention of that DiT alone, and its gradient to queries, keys and values."""
    from torch.nn.functional import scaled_dot_product_attention

    shape = (1, np.prod(GRID) // 4, DIT.heads, DIT.head_width)
    arrays = [drawn(*map(int, shape), seed=seed) for seed in range(3)]
    heads_first = lambda x: x.swapaxes(1, 2)  # noqa: E731
    given = [tensor(heads_first(x)) for x in arrays]

    def gradient(*x: jax.Array) -> tuple[jax.Array, ...]:
        return jax.grad(lambda *x: jnp.square(attention(*x)).sum(), (0, 1, 2))(*x)

    def their_gradient() -> Any:
        x = [each.detach().requires_grad_() for each in given]
        scaled_dot_product_attention(*x).square().sum().backward()
        return x[0].grad

    inputs = tuple(map(jnp.asarray, arrays))
    forward = without_gradient(lambda: scaled_dot_product_attention(*given))
    yield Row("attention forward", 1.0, attention, inputs, forward, heads_first)
    yield Row("attention forward and backward", 1.5, gradient, inputs, their_gradient, heads_first)


def vae_rows() -> Iterator[Row]:
    """A short clip to latents, and latents to a clip."""
    import torch
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    model, params = shared(
        AutoencoderKLWan(base_dim=CODEC.width, z_dim=CODEC.channels, num_res_blocks=CODEC.blocks),
        wan_vae.diffusers_vae(CODEC),
        jax.eval_shape(functools.partial(vae.init, cfg=CODEC), jax.random.key(0)),
    )
    mean, std = np.array(CODEC.mean, np.float32), np.array(CODEC.std, np.float32)
    video = np.clip(drawn(1, *CLIP, 3), -1, 1)
    latents = drawn(1, *LATENTS, CODEC.channels)
    pixels, raw = (tensor(np.moveaxis(x, -1, 1)) for x in (video, latents * std + mean))
    encode = lambda params, x: vae.encode(params, CODEC, x)  # noqa: E731
    # Theirs clips to the range of pixels.
    decode = lambda params, x: jnp.clip(vae.decode(params, CODEC, x), -1, 1)  # noqa: E731
    yield Row(
        "VAE encode", 1.5, encode, (params, jnp.asarray(video)),
        without_gradient(lambda: model.encode(pixels).latent_dist.mean),
        lambda x: (last(x) - mean) / std,
    )  # fmt: skip
    yield Row(
        "VAE decode", 1.5, decode, (params, jnp.asarray(latents)),
        without_gradient(lambda: model.decode(raw).sample), last,
    )  # fmt: skip


def encoder_rows() -> Iterator[Row]:
    """The speech encoder at its released size, and four wide layers of the text encoder."""
    import torch
    from transformers import UMT5Config, UMT5EncoderModel, Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    speech, params = shared(
        Wav2Vec2Model(Wav2Vec2Config()),
        speech_tables.WAV2VEC2,
        jax.eval_shape(functools.partial(wav2vec2.init, cfg=SPEECH), jax.random.key(0)),
    )
    wave = drawn(1, SAMPLES)
    listen = lambda params, x: wav2vec2.encode(params, SPEECH, x)  # noqa: E731
    heard = without_gradient(lambda: speech(tensor(wave)).last_hidden_state)
    yield Row("wav2vec2-base", 1.0, listen, (params, jnp.asarray(wave)), heard)

    reader, params = shared(
        UMT5EncoderModel(
            UMT5Config(
                vocab_size=TEXT.rows,
                d_model=TEXT.width,
                d_kv=TEXT.head_width,
                d_ff=TEXT.mlp_width,
                num_layers=TEXT.layers,
                num_heads=TEXT.heads,
            )
        ),
        umt5.HUGGING_FACE,
        jax.eval_shape(functools.partial(text.init, cfg=TEXT), jax.random.key(0)),
    )
    ids = np.random.default_rng(0).integers(2, TEXT.rows, size=(1, PROMPT)).astype(np.int32)
    mask = jnp.ones(ids.shape, bool)
    read = lambda params, ids: text.encode(params, TEXT, ids, mask)  # noqa: E731
    words = tensor(ids.astype(np.int64))
    understood = without_gradient(lambda: reader(words).last_hidden_state)
    yield Row("UMT5", 1.0, read, (params, jnp.asarray(ids)), understood)


CASES = {
    "DiT": dit_rows,
    "attention": attention_rows,
    "VAE": vae_rows,
    "encoders": encoder_rows,
}


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process, bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def rise(run: timing.Run) -> float:
    """GiB that the resident set rises by during a run (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs let go of would be taken up again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what lies there now
    before = resident("VmRSS")
    run()
    return max(0, resident("VmHWM") - before) / 2**30


def memory(run: timing.Run, theirs: timing.Run, row: Row) -> tuple[float, float]:
    """GiB beyond weights and inputs: ours, PyTorch's."""
    import torch

    if torch_device().type == "cpu" and jax.default_backend() == "cpu":
        return rise(run), rise(theirs)
    plan: Any = jax.jit(row.ours).lower(*row.inputs).compile().memory_analysis()
    if torch_device().type == "cpu":
        return plan.temp_size_in_bytes / 2**30, rise(theirs)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    theirs()
    most = torch.cuda.max_memory_allocated() - before
    return plan.temp_size_in_bytes / 2**30, most / 2**30


def measured(row: Row, repeat: int) -> list[str]:
    """One line of the table.

    Raises:
      ValueError: The two sides did not compute the same.
    """
    import torch

    def theirs() -> Any:
        result = row.theirs()
        if result.is_cuda:
            torch.cuda.synchronize()
        return result

    run, _ = timing.compiled(row.ours, *row.inputs)
    found, expected = jax.tree.leaves(run())[0], row.arranged(theirs().cpu().numpy())
    error = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    if not error < TOLERANCE:
        raise ValueError(f"{row.name}: the sides differ by {error:.1e} of the largest value")
    seconds = timing.medians({"ours": run, "theirs": theirs}, repeat)
    ratio = seconds["ours"] / seconds["theirs"]
    line = [row.name, *(f"{seconds[side]:.3f}" for side in ("ours", "theirs")), f"{ratio:.2f}"]
    return [*line, f"{row.goal:.1f}", *(f"{each:.2f}" for each in memory(run, theirs, row))]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=CASES, help="these rows alone")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="of JAX; default: its own")
    parser.add_argument("--write", action="store_true", help="also into benchmarks/RESULTS.md")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write: of --only; expected all rows")
    if args.device:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(args.device, args.device))
    jax.config.update("jax_default_matmul_precision", "highest")
    rows = []
    for name in [args.only] if args.only else CASES:
        for row in CASES[name]():
            rows.append(measured(row, args.repeat))
            print(*rows[-1], sep="  ", flush=True)
    header = ["", "ours, s", "PyTorch, s", "ratio", "goal", "ours, GiB", "PyTorch, GiB"]
    text = results.table(header, rows)
    print(text)
    if args.write:
        import torch

        about = (
            f"`python -m benchmarks.networks --repeat {args.repeat} --write`: medians of runs in "
            f"turns, float32, jax {jax.__version__} on {jax.devices()[0].device_kind}, torch "
            f"{torch.__version__} on {torch_device().type}; {results.machine()}. Memory is "
            "beyond weights and inputs."
        )
        results.write(TITLE, f"{about}\n\n{text}")


if __name__ == "__main__":
    main()
