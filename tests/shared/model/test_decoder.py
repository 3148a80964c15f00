"""Attention against its definition, and which query sees which."""

import math

import pytest
import torch
from torch import Tensor, nn

from shared.model.attention.projected_attention import ProjectedAttention
from shared.model.decoder import CrossAttention, Decoder, SelfAttention

B, Q, N, D, HEADS = 2, 3, 5, 8, 4


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.fixture
def attention() -> ProjectedAttention:
    torch.manual_seed(0)
    attention = ProjectedAttention(D, HEADS)
    nn.init.normal_(attention.in_proj_bias)
    nn.init.normal_(attention.out_proj.bias)
    return attention.requires_grad_(False)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(layers=2, width=D, heads=HEADS, hidden=6, dropout=0.1).eval()


def test_attention_is_a_softmax_over_scaled_scores(attention: ProjectedAttention) -> None:
    queries, keys, values = tensors((B, Q, D), (B, N, D), (B, N, D))
    query, key, value = (
        tokens @ weight.T + bias
        for tokens, weight, bias in zip(
            (queries, keys, values),
            attention.in_proj_weight.chunk(3),
            attention.in_proj_bias.chunk(3),
            strict=True,
        )
    )
    size = D // HEADS
    merged = torch.empty(B, Q, D)
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        scores = query[..., own] @ key[..., own].transpose(1, 2) / math.sqrt(size)
        merged[..., own] = scores.softmax(dim=-1) @ value[..., own]
    torch.testing.assert_close(attention(queries, keys, values), attention.out_proj(merged))


def test_attention_is_interchangeable_with_torchs(attention: ProjectedAttention) -> None:
    queries, keys, values = tensors((B, Q, D), (B, N, D), (B, N, D))
    allowed = torch.ones(Q, N, dtype=torch.bool)
    allowed[1, 2:] = False
    torchs = nn.MultiheadAttention(D, HEADS, batch_first=True)
    torchs.load_state_dict(attention.state_dict(), strict=True)
    expected, _ = torchs(queries, keys, values, attn_mask=~allowed)
    torch.testing.assert_close(attention(queries, keys, values, mask=allowed), expected)


def test_a_score_bias_counts_as_e_to_the_bias_copies_of_a_token(attention) -> None:
    queries, keys, values = tensors((B, Q, D), (B, N, D), (B, N, D))
    bias = torch.zeros(Q, N)
    bias[:, 4] = math.log(2.0)
    twice = [torch.cat([tokens, tokens[:, 4:]], dim=1) for tokens in (keys, values)]
    torch.testing.assert_close(
        attention(queries, keys, values, mask=bias), attention(queries, *twice)
    )


def test_self_attention_scores_with_positions_and_gathers_content_without() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(D, HEADS, dropout=0.1).eval()
    content, positions = tensors((B, Q, D), (B, Q, D))
    placed = content + positions
    expected = content + layer.attn(placed, placed, content)
    torch.testing.assert_close(layer(content, positions, None), expected)


def test_cross_attention_drops_the_branch_but_no_attention_weight() -> None:
    torch.manual_seed(0)
    layer = CrossAttention(D, HEADS, dropout=0.5)
    content, positions, keys, values = tensors((B, Q, D), (B, Q, D), (B, N, D), (B, N, D))
    whole = layer.eval()(content, positions, keys, values) - content
    dropped = layer.train()(content, positions, keys, values) - content
    remains = dropped.abs() > 1e-6
    assert remains.any()
    assert not remains.all()
    torch.testing.assert_close(dropped[remains], 2 * whole[remains])


def test_every_output_is_normed_but_the_next_layer_reads_it_before_the_norm(
    decoder: Decoder,
) -> None:
    positions, keys, values = tensors((B, Q, D), (B, N, D), (B, N, D))
    nn.init.normal_(decoder.post_norm.weight)
    content, expected = torch.zeros(B, Q, D), []
    for layer in decoder.layers:
        content = layer(content, positions, keys, values, None)
        expected.append(decoder.post_norm(content))
    torch.testing.assert_close(decoder(positions, keys, values, None), torch.stack(expected))


def test_a_query_does_not_see_what_is_blocked(decoder: Decoder) -> None:
    positions, keys, values = tensors((B, Q, D), (B, N, D), (B, N, D))
    moved = positions.clone()
    moved[:, 0] += 1.0
    allowed = torch.ones(Q, Q, dtype=torch.bool)
    allowed[2, 0] = allowed[2, 1] = False  # 1 sees 0, so 2 must not see 1 either
    before = decoder(positions, keys, values, allowed)
    after = decoder(moved, keys, values, allowed)
    torch.testing.assert_close(after[:, :, 2], before[:, :, 2], rtol=0, atol=0)
    assert not torch.allclose(after[:, :, 1], before[:, :, 1])


def test_nan_is_not_hidden(decoder: Decoder) -> None:
    positions, keys, values = tensors((B, Q, D), (B, N, D), (B, N, D))
    values[1, 2, 3] = torch.nan
    decoded = decoder(positions, keys, values, None)
    assert decoded[:, 0].isfinite().all()
    assert decoded[:, 1].isnan().all()
