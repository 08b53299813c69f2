# The same as default_runtime.py, of mmpretrain.
_base_ = 'mmpretrain::_base_/default_runtime.py'

log_processor = dict(type='halvit_mm.LogProcessor')
default_hooks = dict(checkpoint=dict(type='halvit_mm.CheckpointHook'))
