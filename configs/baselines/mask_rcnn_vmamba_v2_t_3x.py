# Mask R-CNN, VMamba-T, second version (tiny_s1l8), COCO 2017, 3x multi-scale: 50 M parameters, 271 G FLOPs at 1280 x
# 800.
# Reproduces: VMamba's model zoo, VMamba-T. Published: 48.8 box AP, 43.7 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Trained weights:
# https://github.com/MzeroMiko/VMamba/releases/download/%23v2det/mask_rcnn_vssm_fpn_coco_tiny_ms_3x_s_epoch_31.pth
# Total batch 16 (8 GPUs x 2), 36 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = ['../mask_rcnn_localvmamba_t_3x.py']
pretrained = 'https://github.com/MzeroMiko/VMamba/releases/download/%23v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth'
model = dict(
    backbone=dict(
        type='mmlocalmamba.VMamba', arch='tiny_s1l8', init_cfg=dict(type='Pretrained', checkpoint=pretrained)
    ),
)
