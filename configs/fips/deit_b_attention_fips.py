# Beyond the paper: attention's matrices share the bases of their groups.
# `proj` writes to the residual stream, as an FFN's second matrix does.
_base_ = './deit_b_fips.py'

fips = dict(
    groups=[
        r'layers\.[0-3]\.(attn|ffn)',
        r'layers\.[4-7]\.(attn|ffn)',
        r'layers\.(8|9|10|11)\.(attn|ffn)',
    ],
    square={r'.*\.proj': 'out'},
)
