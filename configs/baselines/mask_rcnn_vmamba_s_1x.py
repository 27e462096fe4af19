# Mask R-CNN, VMamba-S, COCO 2017, 1x: 64 M parameters, 400 G FLOPs at 1280 x 800.
# Reproduces: paper table 3, 1x, VMamba-S. Published: 48.2 box AP, 43.0 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Trained weights:
# https://github.com/MzeroMiko/VMamba/releases/download/%23v0det/vssmsmall_mask_rcnn_swin_fpn_coco_epoch_12.pth
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = ['../mask_rcnn_localvmamba_t_1x.py']
pretrained = 'https://github.com/MzeroMiko/VMamba/releases/download/%23v0cls/vssmsmall_dp03_ckpt_epoch_238.pth'
model = dict(
    backbone=dict(type='mmlocalmamba.VMamba', arch='small', init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
