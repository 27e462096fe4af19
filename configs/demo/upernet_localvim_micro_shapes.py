# UperNet, LocalVim micro, on the generated shapes' masks: upernet_localvmamba_micro_shapes.py with the plain backbone.
# Reproduces: nothing that was published. Starts from: scratch.
# Total batch 8 (1 process x 8), 400 iterations of 128 x 128, AdamW lr 1e-3, wd 0.05, drop path 0.0, seed 42.
_base_ = [
    '../_base_/models/upernet_localvim.py',
    '../_base_/datasets/shapes_semantic.py',
    '../_base_/schedules/demo_seg.py',
    '../_base_/seg_runtime.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch='micro', img_size=128, patch_size=8, out_indices=(0, 1, 2, 3), drop_path_rate=0.0),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64, num_classes=7, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=64, channels=32, num_classes=7, norm_cfg=norm_cfg),
    test_cfg=dict(crop_size=(128, 128), stride=(85, 85)),
)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
