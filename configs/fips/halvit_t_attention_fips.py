# Beyond the papers: FFN and attention of HaLViT-T, all matrices tied. Those
# of the attention read the residual stream first.
_base_ = './halvit_t_fips.py'

fips = dict(
    groups=[
        r'layers\.[0-3]\.(attn|ffn)',
        r'layers\.[4-7]\.(attn|ffn)',
        r'layers\.(8|9|10|11)\.(attn|ffn)',
    ],
    square={r'.*\.attn\.(q|kv)': 'in'},
)
