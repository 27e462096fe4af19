# LocalVim-T, ImageNet-1k, 224 x 224: 8 M parameters, 1.5 G FLOPs. Published: 76.2 top-1 (paper tables 2 and 5).
# Published weights: https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vim_tiny.ckpt
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.1, seed 42. Not reproduced here.
_base_ = [
    '../_base_/models/local_vim_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/imagenet_runtime.py',
]
