# FiPS on HaLViT-M, as on HaLViT-T.
_base_ = ['../pretrain/halvit_m_in1k.py', '../_base_/fips/twelve_layers.py']
