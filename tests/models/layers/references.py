"""Self-attention written out, with one matrix per projection."""

import torch

from halvit_mm.models.layers import (
    LikeTiedSelfAttention,
    TiedSelfAttention,
)


def matrices_of(attn):
    """Weights and biases of q, k, v and the output, as an untied layer's."""
    if isinstance(attn, TiedSelfAttention):
        wq, wkv = attn.q.weight, attn.kv.weight
        return (wq, wkv, wkv.T, wq.T), (
            attn.q.bias,
            attn.kv.bias,
            attn.kv.transposed_bias,
            attn.q.transposed_bias,
        )
    if isinstance(attn, LikeTiedSelfAttention):
        a, b = attn.qk.weight, attn.vo.weight
        return (a, a.T, b, b), (
            attn.qk.bias,
            attn.qk.transposed_bias,
            attn.vo.bias,
            attn.vo.again.bias,
        )
    weights = (*attn.qkv.weight.chunk(3), attn.proj.weight)
    has_bias = attn.qkv.bias is not None
    qkv_biases = attn.qkv.bias.chunk(3) if has_bias else (None,) * 3
    return weights, (*qkv_biases, attn.proj.bias)


def project(x, weight, bias):
    y = torch.einsum('oi,bti->bto', weight, x)
    return y if bias is None else y + bias


def attention(attn, x, tau=1):
    """Global attention, head by head. Args: x: (B, T, D)."""
    weights, biases = matrices_of(attn)
    q, k, v = (
        project(x, weights[i], biases[i]).chunk(attn.num_heads, dim=-1)
        for i in range(3)
    )
    heads = []
    for i in range(attn.num_heads):
        scores = torch.einsum('bqd,bkd->bqk', q[i], k[i])
        share = torch.exp(tau * scores / q[i].shape[-1] ** 0.5)
        share = share / share.sum(dim=-1, keepdim=True)
        heads.append(torch.einsum('bqk,bkd->bqd', share, v[i]))
    return project(torch.cat(heads, dim=-1), weights[3], biases[3])


def windowed_attention(attn, x, hw, window_size, tau=1):
    """Each window by itself, those at the border cut short: no padding."""
    H, W = hw
    grid = x.reshape(len(x), H, W, -1)
    out = torch.full_like(grid, torch.nan)
    for top in range(0, H, window_size):
        for left in range(0, W, window_size):
            rows = slice(top, top + window_size)
            columns = slice(left, left + window_size)
            window = grid[:, rows, columns]
            tokens = attention(attn, window.flatten(1, 2), tau)
            out[:, rows, columns] = tokens.reshape(window.shape)
    return out.reshape(x.shape)
