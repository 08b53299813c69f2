# ViT-PE: the name of HaLViT-M's layer in the authors' earlier text.
_base_ = './halvit_m_in1k.py'
