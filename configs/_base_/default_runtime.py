# mmdet's runtime, with checkpoints of which one is whole at any moment; the
# host's hook again: default_hooks.checkpoint.type=CheckpointHook
_base_ = 'mmdet::_base_/default_runtime.py'

# Images a second and memory as well; log_processor.type=LogProcessor is the
# host's.
log_processor = dict(type='halvit_mm.LogProcessor')
default_hooks = dict(checkpoint=dict(type='halvit_mm.CheckpointHook'))
