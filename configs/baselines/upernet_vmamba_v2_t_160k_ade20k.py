# UperNet, VMamba-T, second version (tiny_s1l8), ADE20K: 62 M parameters, 949 G FLOPs at 512 x 2048.
# Reproduces: VMamba's model zoo, VMamba-T. Published: 47.9 mIoU single-scale, 48.8 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Trained weights:
# https://github.com/MzeroMiko/VMamba/releases/download/%23v2seg/upernet_vssm_4xb4-160k_ade20k-512x512_tiny_s_iter_160000.pth
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.2, seed 42.
_base_ = ['../upernet_localvmamba_t_160k_ade20k.py']
pretrained = 'https://github.com/MzeroMiko/VMamba/releases/download/%23v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth'
model = dict(
    backbone=dict(
        type='mmlocalmamba.VMamba', arch='tiny_s1l8', init_cfg=dict(type='Pretrained', checkpoint=pretrained)
    ),
)
