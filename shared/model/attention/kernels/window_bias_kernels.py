"""Triton kernels of attention with a bias inside windows: the forward pass.

Flash attention: scores are made tile by tile and never stored. The tiles of a block come in two
kinds, see tile_schedule.py: first those that no window touches, in a loop without any branch, then
the others, which add the bias where a token lies in its query's window. A token's map, row and
column follow from its number, a window is a centre and a reach.

All softmax arithmetic is float32 and to base 2 (`scale` holds a factor log2(e)). The twin to read
first is `biased_attention.dense_attention`; window_bias_gradient_kernels.py is the backward pass.

Tensors, all contiguous: query and attended (B, Q, heads, E); key and value (B, N, heads, E); bias
(B, Q, 2); place (B, P), rows and columns (B, M, P) of `OrderedQueries`; what is "ordered" is (B,
heads, P) or (B, heads, P, E) in that order. Letters as in tile_schedule.py.
"""

# mypy: disable-error-code="import,untyped-decorator,no-untyped-def,no-untyped-call"

import triton
from triton import language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
NO_SCORE = tl.constexpr(-1.0e30)
NEVER = tl.constexpr(1.0e30)  # log-sum-exp of a padded query: all its shares are 0
SIZES = ("queries", "tokens", "bev_tokens", "camera_tokens", "maps",
         "blocks", "token_blocks")  # fmt: skip


@triton.jit
def place_of_block(first, bev_tokens, camera_tokens, block_tokens: tl.constexpr):
    """Return a block's map and how many tokens it has."""
    pixel = first - bev_tokens
    camera = tl.maximum(pixel, 0) // tl.maximum(camera_tokens, 1)
    is_bev = pixel < 0
    start = tl.where(is_bev, first, pixel - camera * camera_tokens)
    size = tl.where(is_bev, bev_tokens, camera_tokens)
    return tl.where(is_bev, 0, 1 + camera), tl.minimum(size - start, block_tokens)


@triton.jit
def profile_of(row, column, centre_row, centre_column, reach, falloff, gaussian: tl.constexpr):
    """Return how much of a query's bias a score gets.

    That is 0 outside the window, and inside 1, or 2^(falloff x squared distance) of a Gaussian.
    """
    down, right = row - centre_row, column - centre_column
    # Distances are whole numbers, so this is 1 up to the reach and 0 beyond. Comparisons would say
    # the same, but the compiler packs their truth values into words and unpacks them again.
    steps_inside = reach + 1.0 - tl.maximum(tl.abs(down), tl.abs(right))
    profile = tl.minimum(tl.maximum(steps_inside, 0.0), 1.0)
    if gaussian:
        return profile * tl.exp2(falloff * (down * down + right * right))
    return profile


@triton.jit
def load_rows(pointer, at, width: tl.constexpr, wide: tl.constexpr):
    """Load whole rows of features; a mask only where `wide` is more than the width."""
    if width == wide:
        return tl.load(pointer + at)
    return tl.load(pointer + at, mask=tl.arange(0, wide)[None, :] < width, other=0.0)


@triton.jit(do_not_specialize=SIZES)
def attend_kernel(
    query, key, value, bias, token_rows, token_columns, place, rows, columns,
    tokens_of, plain_tokens,
    attended, log_sum,
    queries, padded, tokens, bev_tokens, camera_tokens, maps, bev_reach,
    camera_reach, blocks, token_blocks, scale, falloff,
    heads: tl.constexpr, width: tl.constexpr, wide: tl.constexpr, gaussian: tl.constexpr,
    products: tl.constexpr, block_queries: tl.constexpr, block_tokens: tl.constexpr,
    stages: tl.constexpr,
):  # fmt: skip
    """Write `attended` and, ordered, the log-sum-exp of the scores; one block of queries and head.

    `wide` is the width of a head rounded up to a power of two.
    """
    block, head, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    feature, token = tl.arange(0, wide), tl.arange(0, block_tokens)
    ordered = block * block_queries + tl.arange(0, block_queries)
    at = tl.load(place + sample * padded + ordered)
    exists = at < queries
    of_query = (sample.to(tl.int64) * queries * heads + head) * width
    of_key = (sample.to(tl.int64) * tokens * heads + head) * width
    in_query = exists[:, None] & (feature[None, :] < width)
    query_at = of_query + at[:, None] * (heads * width) + feature[None, :]
    q = tl.load(query + query_at, mask=in_query, other=0.0)
    top = tl.full([block_queries], NO_SCORE, tl.float32)
    total = tl.zeros([block_queries], tl.float32)
    mean = tl.zeros([block_queries, wide], tl.float32)
    key_at = token[:, None] * (heads * width) + feature[None, :]
    firsts = tokens_of + (sample * blocks + block) * token_blocks
    plain = tl.load(plain_tokens + sample * blocks + block)

    for number in tl.range(0, plain, num_stages=stages):
        first = tl.load(firsts + number)
        start = of_key + first * (heads * width)
        k = load_rows(key, start + key_at, width, wide)
        v = load_rows(value, start + key_at, width, wide)
        score = tl.dot(q, tl.trans(k), input_precision=products)
        new_top = tl.maximum(top, tl.max(score, 1) * scale)
        share = tl.exp2(score * scale - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(share, 1)
        mean = mean * shrink[:, None]
        mean = tl.dot(share.to(v.dtype), v, mean, input_precision=products)
        top = new_top

    for number in tl.range(plain, token_blocks, num_stages=1):
        first = tl.load(firsts + number)
        at_map, count = place_of_block(first, bev_tokens, camera_tokens, block_tokens)
        in_map = token < count
        in_key = in_map[:, None] & (feature[None, :] < width)
        start = of_key + first * (heads * width)
        k = tl.load(key + start + key_at, mask=in_key, other=0.0)
        v = tl.load(value + start + key_at, mask=in_key, other=0.0)
        of_map = (sample * maps + at_map) * padded + ordered
        centre_row, centre_column = tl.load(rows + of_map), tl.load(columns + of_map)
        bias_at = (sample * queries + at) * 2 + tl.minimum(at_map, 1)
        added = tl.load(bias + bias_at, mask=exists, other=0.0) * LOG2_E
        row = tl.load(token_rows + first + token)
        column = tl.load(token_columns + first + token)
        beyond = tl.where(in_map, 0.0, NO_SCORE)
        score = tl.dot(q, tl.trans(k), input_precision=products) * scale + beyond[None, :]
        profile = profile_of(
            row[None, :], column[None, :], centre_row[:, None], centre_column[:, None],
            tl.where(at_map == 0, bev_reach, camera_reach), falloff, gaussian,
        )  # fmt: skip
        score += added[:, None] * profile
        new_top = tl.maximum(top, tl.max(score, 1))
        share = tl.exp2(score - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(share, 1)
        mean = mean * shrink[:, None]
        mean = tl.dot(share.to(v.dtype), v, mean, input_precision=products)
        top = new_top

    mean = mean / total[:, None]
    tl.store(attended + query_at, mean.to(attended.dtype.element_ty), mask=in_query)
    sum_at = (sample * heads + head) * padded + ordered
    tl.store(log_sum + sum_at, tl.where(exists, top + tl.log2(total), NEVER))
