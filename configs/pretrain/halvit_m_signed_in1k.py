# HaLViT+-M, version 2, our own step beyond the paper: HaLViT-M with fixed
# signs of the hidden units, and attention that ties the query with the key and
# the value with the output. Version 1 has the signs only: attn='paper'.
_base_ = './halvit_m_in1k.py'

model = dict(backbone=dict(gain='signed', attn='like'))
