# Mask R-CNN, VMamba-T, COCO 2017, 1x: 42 M parameters, 286 G FLOPs at 1280 x 800.
# Reproduces: paper table 3, 1x, VMamba-T. Published: 46.5 box AP, 42.1 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Trained weights:
# https://github.com/MzeroMiko/VMamba/releases/download/%23v0det/vssmtiny_mask_rcnn_swin_fpn_coco_epoch_12.pth
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = ['../mask_rcnn_localvmamba_t_1x.py']
pretrained = 'https://github.com/MzeroMiko/VMamba/releases/download/%23v0cls/vssmtiny_dp01_ckpt_epoch_292.pth'
model = dict(
    backbone=dict(type='mmlocalmamba.VMamba', init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
