# VMamba-S, ImageNet-1k, 224 x 224: 44 M parameters, 11.2 G FLOPs. Published: 83.5 top-1 (paper table 2).
# Published weights: https://github.com/MzeroMiko/VMamba/releases/download/%23v0cls/vssmsmall_dp03_ckpt_epoch_238.pth
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.3, seed 42. Not reproduced here.
_base_ = ['../imagenet/local_vmamba_s.py']
model = dict(backbone=dict(type='mmlocalmamba.VMamba'))
