# The same as default_runtime.py, of mmpretrain.
_base_ = 'mmpretrain::_base_/default_runtime.py'

default_hooks = dict(checkpoint=dict(type='halvit_mm.CheckpointHook'))
