"""Triton kernels of attention inside windows only: no score is made for any other token.

A program of the first two kernels belongs to one query with all its heads, and walks over the cells
of its windows, a block of cells at a time. A program of the third belongs to a patch of tokens, and
walks over the queries whose windows may reach it: these are neighbours in the order of `MapOrder`.
So every result has one writer, and none is added up by atomics.

Neighbouring queries have different windows, so the tiles of a matrix product would be mostly empty.
Products are plain multiplications and sums instead, in float32 whatever the memory's dtype is. No
sum may have the form of a matrix product, (M, K, 1) times (1, K, N) over K with M of 16 or more:
Triton's compiler makes a product on tensor cores of it, in TF32, and one with K below 8 counts
every term twice (seen with 3.6 on Hopper). The twin to read first is
`window_mean.gathered_window_mean`.

Tensors, all contiguous: folded, mean and their gradients (B, heads, Q, D); keys and values (B, N,
D); types (2, D); rows and columns (B, M, Q) of the windows' centres; log_sum and mean_gains (B,
heads, Q).
"""

# mypy: disable-error-code="import,untyped-decorator,no-untyped-def,no-untyped-call"

import triton
from triton import language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
NO_SCORE = tl.constexpr(-1.0e30)
NEVER = tl.constexpr(1.0e30)  # log-sum-exp where there is no token: all shares are 0
NO_WINDOW = tl.constexpr(-(2**19))  # rows below are `local_windows.NOWHERE`
PATCH = tl.constexpr(4)  # rows and columns of a patch of tokens
SIZES = ("queries", "tokens", "maps", "bev_rows", "bev_columns", "camera_rows", "camera_columns",
         "bev_side", "camera_side", "starts_of_map")  # fmt: skip


@triton.jit
def map_of(number, bev_rows, bev_columns, camera_rows, camera_columns, bev_side, camera_side):
    """Return a map's first token, rows, columns, and the side of windows on it."""
    bev_tokens, camera_tokens = bev_rows * bev_columns, camera_rows * camera_columns
    if number == 0:
        first, rows, columns, side = number * 0, bev_rows, bev_columns, bev_side
    else:
        first = bev_tokens + (number - 1) * camera_tokens
        rows, columns, side = camera_rows, camera_columns, camera_side
    return first, rows, columns, side


@triton.jit
def cells_of_window(start, row, column, side, rows, columns, block_cells: tl.constexpr):
    """Return a block of a window's cells as numbers on their map, and which of them exist."""
    cell = start + tl.arange(0, block_cells)
    down, right = row - side // 2 + cell // side, column - side // 2 + cell % side
    exists = (cell < side * side) & (down >= 0) & (down < rows) & (right >= 0) & (right < columns)
    return down * columns + right, exists


@triton.jit
def load_typed(memory, types, at, exists, feature, width: tl.constexpr):
    """Return tokens (block, D) as float32 plus the type of their sensor, 0 where there is none."""
    in_width = feature[None, :] < width
    token = tl.load(memory + at, mask=exists[:, None] & in_width, other=0.0).to(tl.float32)
    of_type = tl.load(types + feature, mask=feature < width, other=0.0)
    return tl.where(exists[:, None], token + of_type[None, :], 0.0)


@triton.jit(do_not_specialize=SIZES)
def window_mean_kernel(
    folded, keys, values, types, centre_rows, centre_columns, mean_out, log_sum,
    queries, tokens, maps, bev_rows, bev_columns, camera_rows, camera_columns, bev_side,
    camera_side,
    heads: tl.constexpr, width: tl.constexpr, wide: tl.constexpr, head_rows: tl.constexpr,
    block_cells: tl.constexpr,
):  # fmt: skip
    """Write one query's means and the log-sum-exp of its scores, to base 2.

    `head_rows` and `wide` are the numbers of heads and features, rounded up to a power of two.
    """
    query, sample = tl.program_id(0), tl.program_id(1)
    head, feature = tl.arange(0, head_rows), tl.arange(0, wide)
    in_query = (head < heads)[:, None] & (feature < width)[None, :]
    of_head = (sample * heads + head) * queries + query
    query_at = of_head.to(tl.int64)[:, None] * width + feature[None, :]
    q = tl.load(folded + query_at, mask=in_query, other=0.0)
    top = tl.full([head_rows], NO_SCORE, tl.float32)
    total = tl.zeros([head_rows], tl.float32)
    mean = tl.zeros([head_rows, wide], tl.float32)
    for number in range(0, maps):
        first, rows, columns, side = map_of(
            number, bev_rows, bev_columns, camera_rows, camera_columns, bev_side, camera_side
        )
        row = tl.load(centre_rows + (sample * maps + number) * queries + query)
        column = tl.load(centre_columns + (sample * maps + number) * queries + query)
        of_type = types + tl.minimum(number, 1) * width
        cells = tl.where(row > NO_WINDOW, side * side, 0)
        for start in range(0, cells, block_cells):
            cell, exists = cells_of_window(start, row, column, side, rows, columns, block_cells)
            at = (sample.to(tl.int64) * tokens + first + cell)[:, None] * width + feature[None, :]
            k = load_typed(keys, of_type, at, exists, feature, width)
            v = load_typed(values, of_type, at, exists, feature, width)
            score = tl.sum(k[:, None, :] * q[None, :, :], 2) * LOG2_E  # (cells, heads)
            score = tl.where(exists[:, None], score, NO_SCORE)
            new_top = tl.maximum(top, tl.max(score, 0))
            share = tl.where(exists[:, None], tl.exp2(score - new_top[None, :]), 0.0)
            shrink = tl.exp2(top - new_top)
            total = total * shrink + tl.sum(share, 0)
            mean = mean * shrink[:, None] + tl.sum(share[:, :, None] * v[:, None, :], 0)
            top = new_top
    is_empty = total == 0.0
    mean = mean / tl.where(is_empty, 1.0, total)[:, None]
    tl.store(mean_out + query_at, mean, mask=in_query)
    log_total = tl.where(is_empty, NEVER, top + tl.log2(tl.where(is_empty, 1.0, total)))
    tl.store(log_sum + of_head, log_total, mask=head < heads)


@triton.jit(do_not_specialize=SIZES)
def folded_gradient_kernel(
    folded, keys, values, types, centre_rows, centre_columns, mean_in, log_sum, grad,
    of_folded, mean_gains,
    queries, tokens, maps, bev_rows, bev_columns, camera_rows, camera_columns, bev_side,
    camera_side,
    heads: tl.constexpr, width: tl.constexpr, wide: tl.constexpr, head_rows: tl.constexpr,
    block_cells: tl.constexpr,
):  # fmt: skip
    """Write the gradient of one query's `folded`, and its mean gains for the next kernel."""
    query, sample = tl.program_id(0), tl.program_id(1)
    head, feature = tl.arange(0, head_rows), tl.arange(0, wide)
    in_query = (head < heads)[:, None] & (feature < width)[None, :]
    of_head = (sample * heads + head) * queries + query
    query_at = of_head.to(tl.int64)[:, None] * width + feature[None, :]
    q = tl.load(folded + query_at, mask=in_query, other=0.0)
    g = tl.load(grad + query_at, mask=in_query, other=0.0)
    mean = tl.load(mean_in + query_at, mask=in_query, other=0.0)
    mean_gain = tl.sum(g * mean, 1)
    log_total = tl.load(log_sum + of_head, mask=head < heads, other=NEVER)
    result = tl.zeros([head_rows, wide], tl.float32)
    for number in range(0, maps):
        first, rows, columns, side = map_of(
            number, bev_rows, bev_columns, camera_rows, camera_columns, bev_side, camera_side
        )
        row = tl.load(centre_rows + (sample * maps + number) * queries + query)
        column = tl.load(centre_columns + (sample * maps + number) * queries + query)
        of_type = types + tl.minimum(number, 1) * width
        cells = tl.where(row > NO_WINDOW, side * side, 0)
        for start in range(0, cells, block_cells):
            cell, exists = cells_of_window(start, row, column, side, rows, columns, block_cells)
            at = (sample.to(tl.int64) * tokens + first + cell)[:, None] * width + feature[None, :]
            k = load_typed(keys, of_type, at, exists, feature, width)
            v = load_typed(values, of_type, at, exists, feature, width)
            score = tl.sum(k[:, None, :] * q[None, :, :], 2) * LOG2_E  # (cells, heads)
            share = tl.where(exists[:, None], tl.exp2(score - log_total[None, :]), 0.0)
            gain = tl.sum(v[:, None, :] * g[None, :, :], 2)
            of_score = share * (gain - mean_gain[None, :])
            result += tl.sum(of_score[:, :, None] * k[:, None, :], 0)
    tl.store(of_folded + query_at, result, mask=in_query)
    tl.store(mean_gains + of_head, mean_gain, mask=head < heads)


@triton.jit(do_not_specialize=SIZES)
def memory_gradient_kernel(
    folded, keys, values, types, centre_rows, centre_columns, order, starts, log_sum, mean_gains,
    grad, of_keys, of_values,
    queries, tokens, maps, bev_rows, bev_columns, camera_rows, camera_columns, bev_side,
    camera_side, starts_of_map,
    heads: tl.constexpr, width: tl.constexpr, wide: tl.constexpr, head_rows: tl.constexpr,
):  # fmt: skip
    """Write the gradients of the keys and values of one patch of `PATCH` x `PATCH` tokens."""
    patch, sample = tl.program_id(0), tl.program_id(1)
    bev_patches = tl.cdiv(bev_rows, PATCH) * tl.cdiv(bev_columns, PATCH)
    camera_patches = tl.cdiv(camera_rows, PATCH) * tl.cdiv(camera_columns, PATCH)
    beyond_bev = tl.maximum(patch - bev_patches, 0)
    number = tl.where(patch < bev_patches, 0, 1 + beyond_bev // tl.maximum(camera_patches, 1))
    on_map = tl.where(patch < bev_patches, patch, beyond_bev - (number - 1) * camera_patches)
    first, rows, columns, side = map_of(
        number, bev_rows, bev_columns, camera_rows, camera_columns, bev_side, camera_side
    )
    reach = side // 2
    across = tl.cdiv(columns, PATCH)
    top_row, left = on_map // across * PATCH, on_map % across * PATCH
    cell, feature = tl.arange(0, PATCH * PATCH), tl.arange(0, wide)
    row, column = top_row + cell // PATCH, left + cell % PATCH
    exists = (row < rows) & (column < columns)
    token = first + row * columns + column
    at = (sample.to(tl.int64) * tokens + token)[:, None] * width + feature[None, :]
    of_type = types + tl.minimum(number, 1) * width
    k = load_typed(keys, of_type, at, exists, feature, width)
    v = load_typed(values, of_type, at, exists, feature, width)
    of_key = tl.zeros([PATCH * PATCH, wide], tl.float32)
    of_value = tl.zeros([PATCH * PATCH, wide], tl.float32)
    head = tl.arange(0, head_rows)
    of_map = (sample * maps + number) * queries
    starts_at = starts + (sample * maps + number) * starts_of_map
    from_column = tl.maximum(left - reach, 0)
    to_column = tl.minimum(left + PATCH + reach, columns)
    from_strip = tl.maximum(top_row - reach, 0) // PATCH
    to_strip = tl.minimum(top_row + PATCH - 1 + reach, rows - 1) // PATCH
    for strip in range(from_strip, to_strip + 1):
        begin = tl.load(starts_at + strip * columns + from_column)
        end = tl.load(starts_at + strip * columns + to_column)
        for place in range(begin, end):
            query = tl.load(order + of_map + place)
            down = row - tl.load(centre_rows + of_map + query)
            right = column - tl.load(centre_columns + of_map + query)
            inside = exists & (tl.abs(down) <= reach) & (tl.abs(right) <= reach)
            of_head = (sample * heads + head) * queries + query
            query_at = of_head.to(tl.int64)[:, None] * width + feature[None, :]
            in_query = (head < heads)[:, None] & (feature < width)[None, :]
            q = tl.load(folded + query_at, mask=in_query, other=0.0)
            g = tl.load(grad + query_at, mask=in_query, other=0.0)
            log_total = tl.load(log_sum + of_head, mask=head < heads, other=NEVER)
            mean_gain = tl.load(mean_gains + of_head, mask=head < heads, other=0.0)
            score = tl.sum(q[:, None, :] * k[None, :, :], 2) * LOG2_E  # (heads, tokens)
            share = tl.where(inside[None, :], tl.exp2(score - log_total[:, None]), 0.0)
            of_value += tl.sum(share[:, :, None] * g[:, None, :], 0)
            gain = tl.sum(g[:, None, :] * v[None, :, :], 2)
            of_score = share * (gain - mean_gain[:, None])
            of_key += tl.sum(of_score[:, :, None] * q[:, None, :], 0)
    in_memory = exists[:, None] & (feature < width)[None, :]
    tl.store(of_keys + at, of_key, mask=in_memory)
    tl.store(of_values + at, of_value, mask=in_memory)
