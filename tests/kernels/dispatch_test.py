"""Which kernel is in the program of each platform, and that no array of scores is beside it."""

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from ft_jax.kernels import attention
from ft_jax.models import audio, dit, term
from tests.kernels.program import largest_tensor, shapes

SPLASH, CUDNN = "tpu_custom_call", "__cudnn$fmha"
FRAMES, POSITIONS, HEADS, WIDTH = 5, 300, 2, 32
QUERIES, TEXT, IMAGE = FRAMES * POSITIONS, 512, 257


@pytest.fixture(autouse=True)
def with_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX asks for it while it traces; a CPU machine has none to ask."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91200)


def lowered(function, platform, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,))


def program(platform, queries=300, keys=769, dtype=jnp.bfloat16, mask=None, grad=True):
    q, k = (jax.ShapeDtypeStruct((1, length, 2, 32), dtype) for length in (queries, keys))
    loss = lambda q, k, v, mask: attention(q, k, v, mask).astype(jnp.float32).sum()  # noqa: E731
    function = jax.grad(loss, (0, 1, 2)) if grad else loss
    return lowered(function, platform, q, k, k, mask).as_text()


@pytest.mark.parametrize(
    ("platform", "forward", "gradient"),
    [("tpu", {SPLASH: 1}, {SPLASH: 2}), ("cuda", {CUDNN: 1}, {CUDNN: 3}), ("cpu", {}, {})],
)
def test_each_platform_gets_its_kernel(platform, forward, gradient):
    for expected, grad in ((forward, False), (gradient, True)):
        text = program(platform, grad=grad)
        counts = {name: text.count(f"@{name}") for name in (SPLASH, CUDNN)}
        assert {name: count for name, count in counts.items() if count} == expected


@pytest.mark.parametrize(
    ("platform", "kernel", "options"),
    [
        ("tpu", SPLASH, {"queries": 200, "keys": 256}),
        ("tpu", SPLASH, {"mask": jax.ShapeDtypeStruct((1, 2, 300, 769), bool)}),
        ("cuda", CUDNN, {"mask": jax.ShapeDtypeStruct((1, 2, 300, 769), bool)}),
        ("cuda", CUDNN, {"dtype": jnp.float32}),
    ],
    ids=["one tile", "tpu: a mask for each query", "cuda: a mask for each query", "float32"],
)
def test_what_a_kernel_does_not_take_goes_to_the_reference(platform, kernel, options):
    assert kernel not in program(platform, **options, grad=False)


def cross_attention(platform):
    """The program of its gradient: text, image and speech in frame mode, as the DiT has it."""
    cfg = dit.Config(width=HEADS * WIDTH, heads=HEADS, image_width=8, precision="bf16")
    module = dit.CrossAttention(cfg)
    abstract = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    x = abstract(1, QUERIES, cfg.width)
    context = dit.Context(abstract(1, TEXT, cfg.width), abstract(1, IMAGE, cfg.width))
    speech = jax.ShapeDtypeStruct((1, 40, HEADS, WIDTH), jnp.bfloat16)
    hearing = term.Hearing(jnp.ones(1), audio.frame_windows(40, 4 * FRAMES - 3))

    def split(context, speech):
        none = dit.Shared(jnp.zeros((1, 6, cfg.width)), (0, 0), context, (hearing,))
        return none, dit.Own(None, (term.Keys(speech, speech),))

    params = jax.eval_shape(
        lambda key, x, *given: module.init(key, x, *split(*given)),
        jax.random.key(0),
        x,
        context,
        speech,
    )

    def loss(params, x, *given):
        return module.apply(params, x, *split(*given)).astype(jnp.float32).sum()

    return lowered(jax.grad(loss, (0, 1, 2, 3)), platform, params, x, context, speech)


def is_of_scores(shape):
    window = audio.frame_windows(40, 4 * FRAMES - 3).index.shape[1]
    pairs = ((QUERIES, TEXT), (QUERIES, IMAGE), (POSITIONS, window))
    return any(set(pair) <= set(shape) for pair in pairs)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_no_array_of_scores_is_in_the_cross_attention(platform):
    found = cross_attention(platform)
    assert not list(filter(is_of_scores, shapes(found)))
    assert largest_tensor(found) < HEADS * QUERIES * IMAGE


def test_an_array_of_scores_would_be_seen():
    assert sum(map(is_of_scores, shapes(cross_attention("rocm")))) >= 3
