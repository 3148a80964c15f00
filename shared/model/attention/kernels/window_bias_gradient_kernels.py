"""Triton kernels of attention with a bias inside windows: the backward pass, in two parts.

Scores are made again, tile by tile, from the log-sum-exp that the forward pass left. The gradient
of a score is its share of the attention times the difference between its own gain (of its value,
along the gradient of the output) and the mean gain; summed over a query's windows, times the
profile, it is the gradient of the bias. One kernel walks over the tokens of a block of queries, the
other over the queries of a block of tokens, so that every result has one writer: nothing is added
up by atomics, and results do not change from run to run.

Tensors as in window_bias_kernels.py.
"""

# mypy: disable-error-code="import,untyped-decorator,no-untyped-def,no-untyped-call"

import triton
from triton import language as tl

from shared.model.attention.kernels.window_bias_kernels import (
    LOG2_E,
    NO_SCORE,
    SIZES,
    load_rows,
    place_of_block,
    profile_of,
)


@triton.jit(do_not_specialize=SIZES)
def query_gradient_kernel(
    query, key, value, bias, token_rows, token_columns, place, rows, columns,
    tokens_of, plain_tokens,
    attended, log_sum, grad, of_query_out, of_bias, ordered_query, ordered_grad, mean_gains,
    queries, padded, tokens, bev_tokens, camera_tokens, maps, bev_reach,
    camera_reach, blocks, token_blocks, scale, falloff,
    heads: tl.constexpr, width: tl.constexpr, wide: tl.constexpr, gaussian: tl.constexpr,
    products: tl.constexpr, block_queries: tl.constexpr, block_tokens: tl.constexpr,
    stages: tl.constexpr,
):  # fmt: skip
    """Write the gradients of queries and bias (B, heads, P, 2; ordered), one block and head.

    On the way it leaves queries, gradients and mean gains in order for the kernel of the keys,
    which then reads whole blocks of them without an indirection or a mask.
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
    g = tl.load(grad + query_at, mask=in_query, other=0.0)
    o = tl.load(attended + query_at, mask=in_query, other=0.0)
    mean_gain = tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
    sum_at = (sample * heads + head) * padded + ordered
    log_total = tl.load(log_sum + sum_at)
    ordered_at = ((sample.to(tl.int64) * heads + head) * padded + ordered[:, None]) * width
    ordered_at += feature[None, :]
    in_width = feature[None, :] < width
    tl.store(ordered_query + ordered_at, q, mask=in_width)
    tl.store(ordered_grad + ordered_at, g, mask=in_width)
    tl.store(mean_gains + sum_at, mean_gain)
    result = tl.zeros([block_queries, wide], tl.float32)
    of_bev, of_camera = tl.zeros([block_queries], tl.float32), tl.zeros([block_queries], tl.float32)
    key_at = token[:, None] * (heads * width) + feature[None, :]
    firsts = tokens_of + (sample * blocks + block) * token_blocks
    plain = tl.load(plain_tokens + sample * blocks + block)

    for number in tl.range(0, plain, num_stages=stages):
        first = tl.load(firsts + number)
        start = of_key + first * (heads * width)
        k = load_rows(key, start + key_at, width, wide)
        v = load_rows(value, start + key_at, width, wide)
        score = tl.dot(q, tl.trans(k), input_precision=products)
        share = tl.exp2(score * scale - log_total[:, None])
        gain = tl.dot(g, tl.trans(v), input_precision=products)
        of_score = share * (gain - mean_gain[:, None])
        result = tl.dot(of_score.to(k.dtype), k, result, input_precision=products)

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
        share = tl.exp2(score - log_total[:, None])
        gain = tl.dot(g, tl.trans(v), input_precision=products)
        of_score = share * (gain - mean_gain[:, None])
        of_window = tl.sum(of_score * profile, 1)
        of_bev += tl.where(at_map == 0, of_window, 0.0)
        of_camera += tl.where(at_map == 0, 0.0, of_window)
        result = tl.dot(of_score.to(k.dtype), k, result, input_precision=products)

    result = result * (scale / LOG2_E)
    tl.store(of_query_out + query_at, result.to(of_query_out.dtype.element_ty), mask=in_query)
    bias_out = ((sample * queries + at) * heads + head) * 2
    tl.store(of_bias + bias_out, of_bev, mask=exists)
    tl.store(of_bias + bias_out + 1, of_camera, mask=exists)


@triton.jit(do_not_specialize=SIZES)
def key_gradient_kernel(
    key, value, bias, token_rows, token_columns, place, rows, columns, tokens_of, queries_of,
    plain_queries, log_sum, ordered_query, ordered_grad, mean_gains, of_key_out, of_value_out,
    queries, padded, tokens, bev_tokens, camera_tokens, maps, bev_reach,
    camera_reach, blocks, token_blocks, scale, falloff,
    heads: tl.constexpr, width: tl.constexpr, wide: tl.constexpr, gaussian: tl.constexpr,
    products: tl.constexpr, block_queries: tl.constexpr, block_tokens: tl.constexpr,
    stages: tl.constexpr,
):  # fmt: skip
    """Write the gradients of keys and values, one block of tokens and head.

    `tokens_of` are here the first tokens of all blocks, (T,).
    """
    block, head, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    feature, token = tl.arange(0, wide), tl.arange(0, block_tokens)
    first = tl.load(tokens_of + block)
    at_map, count = place_of_block(first, bev_tokens, camera_tokens, block_tokens)
    in_key = (token < count)[:, None] & (feature[None, :] < width)
    key_at = (sample.to(tl.int64) * tokens + first) * (heads * width) + head * width
    key_at = key_at + token[:, None] * (heads * width) + feature[None, :]
    k = tl.load(key + key_at, mask=in_key, other=0.0)
    v = tl.load(value + key_at, mask=in_key, other=0.0)
    reach = tl.where(at_map == 0, bev_reach, camera_reach)
    row = tl.load(token_rows + first + token)
    column = tl.load(token_columns + first + token)
    of_key = tl.zeros([block_tokens, wide], tl.float32)
    of_value = tl.zeros([block_tokens, wide], tl.float32)
    in_block = tl.arange(0, block_queries)
    of_head = (sample * heads + head) * padded
    numbers = queries_of + (sample * token_blocks + block) * blocks
    plain = tl.load(plain_queries + sample * token_blocks + block)

    for number in tl.range(0, plain, num_stages=stages):
        ordered = tl.load(numbers + number) * block_queries + in_block
        query_at = (of_head.to(tl.int64) + ordered[:, None]) * width + feature[None, :]
        q = load_rows(ordered_query, query_at, width, wide)
        g = load_rows(ordered_grad, query_at, width, wide)
        log_total = tl.load(log_sum + of_head + ordered)
        mean_gain = tl.load(mean_gains + of_head + ordered)
        score = tl.dot(k, tl.trans(q), input_precision=products)  # (tokens, queries)
        share = tl.exp2(score * scale - log_total[None, :])
        of_value = tl.dot(share.to(g.dtype), g, of_value, input_precision=products)
        gain = tl.dot(v, tl.trans(g), input_precision=products)
        of_score = share * (gain - mean_gain[None, :])
        of_key = tl.dot(of_score.to(q.dtype), q, of_key, input_precision=products)

    for number in tl.range(plain, blocks, num_stages=1):
        ordered = tl.load(numbers + number) * block_queries + in_block
        query_at = (of_head.to(tl.int64) + ordered[:, None]) * width + feature[None, :]
        q = load_rows(ordered_query, query_at, width, wide)
        g = load_rows(ordered_grad, query_at, width, wide)
        log_total = tl.load(log_sum + of_head + ordered)
        mean_gain = tl.load(mean_gains + of_head + ordered)
        of_map = (sample * maps + at_map) * padded + ordered
        centre_row, centre_column = tl.load(rows + of_map), tl.load(columns + of_map)
        at = tl.load(place + sample * padded + ordered)
        bias_at = (sample * queries + at) * 2 + tl.minimum(at_map, 1)
        added = tl.load(bias + bias_at, mask=at < queries, other=0.0) * LOG2_E
        profile = profile_of(
            row[:, None], column[:, None], centre_row[None, :], centre_column[None, :],
            reach, falloff, gaussian,
        )  # fmt: skip
        score = tl.dot(k, tl.trans(q), input_precision=products)  # (tokens, queries)
        share = tl.exp2(score * scale + (added[None, :] * profile - log_total[None, :]))
        of_value = tl.dot(share.to(g.dtype), g, of_value, input_precision=products)
        gain = tl.dot(v, tl.trans(g), input_precision=products)
        of_score = share * (gain - mean_gain[None, :])
        of_key = tl.dot(of_score.to(q.dtype), q, of_key, input_precision=products)

    of_key = of_key * (scale / LOG2_E)
    tl.store(of_key_out + key_at, of_key.to(of_key_out.dtype.element_ty), mask=in_key)
    tl.store(of_value_out + key_at, of_value.to(of_value_out.dtype.element_ty), mask=in_key)
