# Direction search of a micro LocalVim on generated textures whose classes differ along columns only.
# make demo-search runs it, exports the two best directions of each block, and trains what it found and the fixed h and
# h_flip of textures_fixed.py. Measured accuracies: see there.
_base_ = ['./textures_fixed.py']
candidates = ['h', 'h_flip', 'v', 'v_flip', 'w2', 'w2_flip', 'w7', 'w7_flip']
model = dict(backbone=dict(arch=dict(directions=[candidates] * 2), search=True))
custom_hooks = [dict(type='mmlocalmamba.DirectionSearchHook', interval=8)]
