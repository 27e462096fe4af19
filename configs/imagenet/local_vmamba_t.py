# LocalVMamba-T, ImageNet-1k, 224 x 224: 26 M parameters, 5.7 G FLOPs. Published: 82.7 top-1 (paper table 2).
# Its weights were never published: this run makes them.
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.2, seed 42. Not reproduced here.
_base_ = [
    '../_base_/models/local_vmamba_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/imagenet_runtime.py',
]
