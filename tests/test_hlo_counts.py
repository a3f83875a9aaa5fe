"""Counts of compiled programs: kernels, copies and bytes from XLA's text, products from a trace."""

import jax
import jax.numpy as jnp
import pytest

from stretchnas_jax.machine import flops, hlo_counts, hlo_text

LOOP = """HloModule jit_f, is_scheduled=true

%fused_pick (param_0: f32[100,8], param_1: s32[]) -> f32[1,8] {
  %param_0 = f32[100,8]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %pick = f32[1,8]{1,0} dynamic-slice(%param_0, %param_1, %zero), dynamic_slice_sizes={1,8}
}

%fused_put (param_0: f32[100,8], param_1: f32[1,8], param_2: s32[]) -> f32[100,8] {
  %param_0 = f32[100,8]{1,0} parameter(0)
  %param_1 = f32[1,8]{1,0} parameter(1)
  %param_2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %put = f32[100,8]{1,0} dynamic-update-slice(%param_0, %param_1, %param_2, %zero)
}

%small (arg: f32[8]) -> f32[8] {
  ROOT %arg = f32[8]{0} parameter(0)
}

%large (arg: f32[8]) -> f32[8] {
  %arg = f32[8]{0} parameter(0)
  %once = f32[8]{0} copy(%arg)
  ROOT %twice = f32[8]{0} copy(%once)
}

%body (state: (s32[], f32[100,8], f32[8])) -> (s32[], f32[100,8], f32[8]) {
  %state = (s32[], f32[100,8]{1,0}, /*index=2*/f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %rows = f32[100,8]{1,0} get-tuple-element(%state), index=1
  %row = f32[8]{0} get-tuple-element(%state), index=2
  %picked = f32[1,8]{1,0} fusion(%rows, %i), kind=kLoop, calls=%fused_pick
  %changed = f32[100,8]{1,0} fusion(%rows, %picked, %i), kind=kLoop, calls=%fused_put
  %chosen = f32[8]{0} conditional(%i, %row, %row), branch_computations={%small, %large}
  ROOT %next = (s32[], f32[100,8]{1,0}, f32[8]{0}) tuple(%i, %changed, %chosen)
}

%condition (state: (s32[], f32[100,8], f32[8])) -> pred[] {
  %state = (s32[], f32[100,8]{1,0}, f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %last = s32[] constant(5)
  ROOT %goes_on = pred[] compare(%i, %last), direction=LT
}

ENTRY %main (given: (s32[], f32[100,8], f32[8])) -> (s32[], f32[100,8], f32[8]) {
  %given = (s32[], f32[100,8]{1,0}, f32[8]{0}) parameter(0)
  ROOT %loop = (s32[], f32[100,8]{1,0}, f32[8]{0}) while(%given), condition=%condition, body=%body
}
"""
KNOWN = 'body=%body, backend_config={"known_trip_count":{"n":"3"}}'


def test_each_turn_of_a_loop_counts_and_a_conditional_is_the_mean_of_its_branches():
  # A turn: two fusions, one copy as the mean of none and two, and the comparison.
  found = hlo_counts.count(LOOP.replace('body=%body', KNOWN))
  assert (found.kernels, found.copies, found.distinct) == (3 * 4, 3, 5)
  # The row that is picked, twice for what is read and written; the same row and two numbers for
  # the update in place; the copy; the comparison.
  turn = (32 + 4 + 32) + (32 + 4 + 32) + 64 + (4 + 4 + 1)
  assert found.num_bytes == 3 * turn


def test_the_condition_tells_the_turns_where_the_compiler_wrote_none():
  found = hlo_counts.count(LOOP)
  assert (found.kernels, found.copies) == (5 * 4, 5)


def test_a_loop_without_a_counter_counts_one_turn():
  """Its condition may hold any constant."""
  fits = 'ROOT %goes_on = pred[] compare(%i, %last), direction='
  assert hlo_counts.count(LOOP.replace(fits + 'LT', fits + 'NE')).kernels == 4
  joined = (
    '%one = pred[] compare(%i, %last), direction=LT\n  ROOT %goes_on = pred[] and(%one, %one)'
  )
  assert hlo_counts.count(LOOP.replace(fits + 'LT', joined)).kernels == 5


def test_a_branch_of_two_counts_half():
  two = LOOP.replace(
    'branch_computations={%small, %large}', 'true_computation=%large, false_computation=%small'
  )
  assert hlo_counts.count(two) == hlo_counts.count(LOOP)


@pytest.mark.parametrize(
  'shape, num_bytes',
  [
    ('f32[]', 4),
    ('bf16[3,5]{1,0}', 30),
    ('pred[7]{0}', 7),
    ('(f32[2]{0}, /*index=1*/u8[0]{0}, s32[3]{0})', 20),
    ('f32[9,130]{1,0:T(8,128)}', 4 * 16 * 256),  # a tile of 8 x 128 is never split
    ('f32[130,9]{0,1:T(8,128)}', 4 * 16 * 256),  # the first axis runs fastest
    ('f32[9,130]{1,0:T(8,128)S(1)}', 0),  # in the memory of the core
  ],
)
def test_padding_of_tiles_counts_and_other_memory_does_not(shape, num_bytes):
  assert hlo_text.shape_bytes(shape) == num_bytes


def test_padding_is_a_part_of_what_is_written():
  """In a loop too, and of an update in place only the part that changes."""
  text = LOOP.replace('body=%body', KNOWN)
  found = hlo_counts.count(text)
  # A turn: the row that is picked, the same row put in its place, the copy, and the comparison.
  assert (found.written, found.padding, found.padding_share) == (3 * (32 + 32 + 32 + 1), 0, 0)
  tiled = text.replace('f32[1,8]{1,0}', 'f32[1,8]{1,0:T(8,128)}')
  found = hlo_counts.count(tiled)
  row = 4 * 8 * 128  # bytes of one tile, of which a row fills 32
  assert found.written == 3 * (row + row + 32 + 1)
  assert found.padding == 3 * 2 * (row - 32)
  assert found.padding_share == found.padding / found.written


def test_a_text_that_is_no_program_is_refused():
  with pytest.raises(ValueError, match='has no entry; XLA may have changed its form'):
    hlo_counts.count('module @jit_f {\n}\n')


def test_the_compiler_of_this_machine_writes_what_is_read():
  def step(x):
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=3)[0]

  text = jax.jit(step).lower(jnp.ones((8, 8))).compile().as_text()
  program = hlo_text.read(text)
  loops = [
    one for body in program.computations.values() for one in body.values() if one.opcode == 'while'
  ]
  assert [program.trips(loop) for loop in loops] == [3]
  assert hlo_counts.count(text).kernels >= 3


def test_products_count_in_loops_branches_and_gradients():
  x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))

  def conv(x, kernel, stride=1):
    return jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  one = 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)
  assert flops.count(jax.make_jaxpr(conv)(x, kernel)) == one
  half = lambda x, kernel: conv(x, kernel, 2)
  assert flops.count(jax.make_jaxpr(half)(x, kernel)) == one / 4
  # The value and the gradients for images and kernel take the same products each.
  for stride in 1, 2:
    loss = lambda x, kernel, stride=stride: conv(x, kernel, stride).sum()
    found = flops.count(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))
    assert found == 3 * one / stride**2

  def loop(x):
    turn = lambda c, _: (jax.lax.cond(c[0, 0] > 0, lambda c: c @ c, lambda c: c, c), None)
    return jax.lax.scan(turn, x, None, length=5)[0]

  assert flops.count(jax.make_jaxpr(jax.jit(loop))(jnp.ones((4, 4)))) == 5 * (2 * 4**3) / 2
