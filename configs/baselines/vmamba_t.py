# VMamba-T, ImageNet-1k, 224 x 224: 22 M parameters, 5.6 G FLOPs. Published: 82.2 top-1 (paper table 2).
# Published weights: https://github.com/MzeroMiko/VMamba/releases/download/%23v0cls/vssmtiny_dp01_ckpt_epoch_292.pth
# The file has 22.9 M parameters, which the paper rounds down.
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.1, seed 42. Not reproduced here.
_base_ = ['../imagenet/local_vmamba_t.py']
model = dict(backbone=dict(type='mmlocalmamba.VMamba', drop_path_rate=0.1))
