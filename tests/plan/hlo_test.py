"""Compiled programs, read: small real ones, and lines as the compilers for TPUs write them."""

import jax
import jax.numpy as jnp
import pytest

from ft_jax.plan import hlo, traffic


def total(program: hlo.Program) -> float:
    """Operations of all products."""
    result = 0.0
    for name, times in program.runs().items():
        shapes = {item.name: item.shapes for item in program.computations.get(name, ())}
        for item in program.computations.get(name, ()):
            result += times * hlo.products(item, shapes)
    return result


def test_products_in_a_loop_count_as_often_as_it_runs():
    def looped(x, w):
        return jax.lax.scan(lambda c, k: (jnp.tanh(c @ k), None), x, w)[0]

    compiled = jax.jit(looped).lower(jnp.ones((4, 8)), jnp.ones((5, 8, 8))).compile()
    text = compiled.as_text() or ""
    program = hlo.parse(text)
    assert total(program) == 5 * 2 * 4 * 8 * 8
    without = hlo.parse(text.replace("known_trip_count", "unknown"))
    assert total(without) == 5 * 2 * 4 * 8 * 8  # from the constant in the condition, as on TPUs


LINES = """HloModule toy
%inner (a: bf16[2,3]) -> bf16[2,3] {
  ROOT %a = bf16[2,3]{1,0} parameter(0)
}
ENTRY %main (p: bf16[6,4]) -> bf16[6,8] {
  %p = bf16[6,4]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %w = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(1)
  %b = bf16[3,6,4]{2,1,0} parameter(2)
  %v = bf16[3,4,8]{2,1,0} parameter(3)
  %one = bf16[6,8]{1,0:T(8,128)(2,1)} convolution(%p, %w), dim_labels=bf_io->bf
  %each = bf16[3,6,8]{2,1,0} convolution(%b, %v), WINDOW, dim_labels=0bf_0io->0bf
  %pair = (f32[2]{0}, s8[3]{0}) custom-call(%p, %one), custom_call_target="x"
  ROOT %out = bf16[6,8]{1,0:T(8,128)(2,1)} copy(%one)
}
"""
WINDOW = "window={size=3 stride=2 pad=2_2 lhs_dilate=3}"


def test_products_of_a_tpu_are_convolutions_also_in_batches():
    program = hlo.parse(LINES.replace("WINDOW", WINDOW))
    assert total(program) == 2 * 6 * 4 * 8 + 3 * 2 * 6 * 4 * 8


def test_arrays_in_small_memory_cost_no_traffic():
    program = hlo.parse(LINES.replace("WINDOW", WINDOW))
    shapes = {item.name: item.shapes for item in program.computations["main"]}
    assert not shapes["p"][0].in_hbm and shapes["w"][0].in_hbm
    assert [shape.bytes for shape in shapes["pair"]] == [8, 3]
    products = 2 * (4 * 8 + 6 * 8) + 2 * (3 * 6 * 4 + 3 * 4 * 8 + 3 * 6 * 8)
    assert traffic.moved(program) == products + (2 * 6 * 8 + 8 + 3) + 2 * 2 * 6 * 8


def test_a_slice_of_stacked_weights_counts_as_the_slice():
    def looped(x, w):
        return jax.lax.scan(lambda c, k: (jnp.tanh(c @ k), None), x, w)[0]

    sizes = (jnp.ones((8, 64)), jnp.ones((50, 64, 64)))
    program = hlo.parse(jax.jit(looped).lower(*sizes).compile().as_text() or "")
    once = 50 * 64 * 64 * 4
    assert once <= traffic.moved(program) < 6 * once  # were it the whole each time: 50 times


TPU = """HloModule toy
%inner (w: bf16[40,8], i: s32[]) -> bf16[1,8] {
  %w = bf16[40,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %s = bf16[1,8]{1,0} dynamic-slice(%w, %i), dynamic_slice_sizes={1,8}
}
%async_collective_fusion.1 (part: bf16[2], all: bf16[16], w: bf16[40,8], i: s32[]) -> bf16[1,8] {
  %part = bf16[2]{0} parameter(0)
  %all = bf16[16]{0} parameter(1)
  %w = bf16[40,8]{1,0} parameter(2)
  %i = s32[] parameter(3)
  %f = bf16[1,8]{1,0} fusion(%w, %i), kind=kLoop, calls=%inner
  %g = bf16[16]{0} custom-call(%part, %all)
  ROOT %r = (bf16[1,8]{1,0}, bf16[2]{0}, bf16[16]{0}) tuple(%f, %part, %g)
}
ENTRY %main (part: bf16[2], all: bf16[16], w: bf16[40,8], i: s32[]) -> bf16[8] {
  %part = bf16[2]{0} parameter(0)
  %all = bf16[16]{0} parameter(1)
  %w = bf16[40,8]{1,0} parameter(2)
  %i = s32[]{:S(2)} parameter(3)
  %f = (bf16[1,8]{1,0}, bf16[2]{0}, bf16[16]{0}) fusion(%part, %all, %w, %i), kind=kOutput, \
output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {})}, calls=%async_collective_fusion.1
  %s = ((bf16[40,8]{1,0}), bf16[8]{0:S(1)}, s32[]{:S(2)}) slice-start(%w), slice={[0:1]}
  %c = (bf16[16]{0:S(1)}, bf16[16]{0}, u32[]{:S(2)}) copy-start(%all)
}
""".replace("\\\n", "")


def test_on_tpus_what_is_handed_on_or_sliced_costs_nothing_more():
    """A fusion beside a running exchange, slices inside of fusions, copies in the background."""
    slice_of_fusion = 2 * 8 + 2 * 8  # read from the stack, written
    assert traffic.moved(hlo.parse(TPU)) == slice_of_fusion + 2 * 8 + 2 * 16


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("nothing")
