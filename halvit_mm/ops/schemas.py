"""Signatures of the operators, for Python and the CUDA sources alike.

A compiled library carries the digest of this file, and one with another
digest is not loaded.

Shapes: T tokens (there may be several leading dimensions; all are flattened
to T), D width, F hidden width of the FFN, B samples. ``x`` gives
the dtype to compute in; weights and biases enter as they are stored, usually
float32, and their gradients leave in that dtype. A tensor that is not needed
is returned with no elements.
"""

NAMESPACE = 'halvit'

SCHEMAS = {
    # residual, delta (..., D); row_scale (B,): B = residual.shape[0].
    # -> residual + row_scale * delta (empty without delta), y in `dtype`,
    #    mean and rstd (T,) in float32 (float64 for float64)
    'add_layer_norm': (
        '(Tensor residual, Tensor? delta, Tensor? row_scale, Tensor weight, '
        'Tensor bias, float eps, ScalarType dtype) '
        '-> (Tensor, Tensor, Tensor, Tensor)'
    ),
    # residual: what was normalised. needs: delta, weight, bias.
    # -> gradients of residual, delta (in delta_dtype), weight, bias
    'add_layer_norm_backward': (
        '(Tensor? grad_residual, Tensor? grad_y, Tensor residual, '
        'Tensor mean, Tensor rstd, Tensor weight, Tensor? row_scale, '
        'ScalarType delta_dtype, bool[] needs) '
        '-> (Tensor, Tensor, Tensor, Tensor)'
    ),
    # x (..., D); wq, wkv (D, D) -> q, k, v (..., D) and packed: [wq; wkv]
    # (2 D, D) in x's dtype, empty where the weights have that dtype already
    'tied_qkv': (
        '(Tensor x, Tensor wq, Tensor wkv, Tensor? bq, Tensor? bk, '
        'Tensor? bv) -> (Tensor, Tensor, Tensor, Tensor)'
    ),
    # needs: x, wq, wkv, bq, bk, bv -> their gradients
    'tied_qkv_backward': (
        '(Tensor? dq, Tensor? dk, Tensor? dv, Tensor x, Tensor wq, '
        'Tensor wkv, Tensor packed, bool[] needs) '
        '-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)'
    ),
    # o (..., D); packed: of tied_qkv, or empty -> y (..., D)
    'tied_out': (
        '(Tensor o, Tensor wq, Tensor packed, Tensor? bias) -> Tensor'
    ),
    # needs: o, wq, bias -> their gradients
    'tied_out_backward': (
        '(Tensor g, Tensor o, Tensor wq, Tensor packed, '
        'bool[] needs) -> (Tensor, Tensor, Tensor)'
    ),
    # x (..., D); w (F, D); signed: the second half of the hidden units counts
    # negative; impl: 0, or 1 for GELU inside the product
    # -> y (..., D), u (..., F) before the GELU, and w in x's dtype (empty
    #    where it has that dtype already)
    'tied_ffn': (
        '(Tensor x, Tensor w, Tensor? b1, Tensor? b2, bool signed, '
        'str approximate, int impl) '
        '-> (Tensor, Tensor, Tensor)'
    ),
    # needs: x, w, b1, b2 -> their gradients
    'tied_ffn_backward': (
        '(Tensor g, Tensor x, Tensor u, Tensor w, Tensor w_cast, '
        'bool signed, str approximate, int impl, bool[] needs) '
        '-> (Tensor, Tensor, Tensor, Tensor)'
    ),
    # the same as tied_ffn, keeping nothing -> y (..., D)
    'tied_ffn_inference': (
        '(Tensor x, Tensor w, Tensor? b1, Tensor? b2, bool signed, '
        'str approximate, int impl) -> Tensor'
    ),
    # wq, wkv (D, D) -> [wq; wkv; wkv^T] (3 D, D) in `dtype`, for inference
    'pack_qkv': '(Tensor wq, Tensor wkv, ScalarType dtype) -> Tensor',
}
