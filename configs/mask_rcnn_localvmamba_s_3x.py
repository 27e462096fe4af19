# Mask R-CNN, LocalVMamba-S, COCO 2017, 3x multi-scale: 69 M parameters, 414 G FLOPs at 1280 x 800.
# Reproduces: paper table 3, 3x MS, LocalVMamba-S. Published: 49.9 box AP, 44.1 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Total batch 16 (8 GPUs x 2), 36 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2 (as MMDetection's Swin-S; the paper is
# silent), seed 42.
_base_ = ['./mask_rcnn_localvmamba_t_3x.py']
pretrained = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vssm_small.ckpt'
model = dict(backbone=dict(arch='small', init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
