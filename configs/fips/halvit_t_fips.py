# FiPS on HaLViT-T, beyond the papers: one tied matrix per FFN, whose two uses
# are served by one factor.
# python tools/compress.py configs/fips/halvit_t_fips.py \
#     work_dirs/halvit_t_in1k/epoch_300.pth --budget 0.4 \
#     --out work_dirs/fips/halvit_t
_base_ = ['../pretrain/halvit_t_in1k.py', '../_base_/fips/twelve_layers.py']
