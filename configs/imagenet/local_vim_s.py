# LocalVim-S, ImageNet-1k, 224 x 224: 28 M parameters, 4.8 G FLOPs. Published: 81.2 top-1 (paper table 2).
# Published weights: https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vim_small.ckpt
# If those do badly here, they were trained without searched directions: arch='small_without_search'.
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.1, seed 42. Not reproduced here.
_base_ = [
    '../_base_/models/local_vim_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/imagenet_runtime.py',
]
model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
