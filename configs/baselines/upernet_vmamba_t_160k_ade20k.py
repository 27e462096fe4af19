# UperNet, VMamba-T, ADE20K: 55 M parameters, 964 G FLOPs at 512 x 2048.
# Reproduces: paper table 4, VMamba-T. Published: 47.3 mIoU single-scale, 48.3 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Trained weights:
# https://github.com/MzeroMiko/VMamba/releases/download/%23v0seg/vssmtiny_upernet_4xb4-160k_ade20k-512x512_iter_160000.pth
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.2, seed 42.
_base_ = ['../upernet_localvmamba_t_160k_ade20k.py']
pretrained = 'https://github.com/MzeroMiko/VMamba/releases/download/%23v0cls/vssmtiny_dp01_ckpt_epoch_292.pth'
model = dict(
    backbone=dict(type='mmlocalmamba.VMamba', init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
