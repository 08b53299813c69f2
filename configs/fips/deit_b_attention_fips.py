# Beyond the paper: attention's matrices share the bases of their groups.
# `proj` writes to the residual stream, as an FFN's second matrix does.
_base_ = './deit_b_fips.py'

fips = dict(
    groups=[
        r'layers\.[0-3]\.(attn|ffn\.layers)',
        r'layers\.[4-7]\.(attn|ffn\.layers)',
        r'layers\.(8|9|10|11)\.(attn|ffn\.layers)',
    ],
    square={r'.*\.proj': 'out'},
)
