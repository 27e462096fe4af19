# LocalVMamba-S, ImageNet-1k, 224 x 224: 50 M parameters, 11.4 G FLOPs. Published: 83.7 top-1 (paper table 2).
# Published weights: https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vssm_small.ckpt
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.3, seed 42. Not reproduced here.
_base_ = [
    '../_base_/models/local_vmamba_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/imagenet_runtime.py',
]
model = dict(backbone=dict(arch='small', drop_path_rate=0.3))
