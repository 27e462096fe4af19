# Cascade Mask R-CNN with ViTDet's neck and heads, LocalVim-T, COCO 2017: 66 M parameters.
# Reproduces: paper table 6, LocalVim-T, by its text. Published: 45.3 box AP, 39.9 mask AP. Not reproduced here.
# The size stated there, 31 M parameters and 403 G FLOPs, is that of mask_rcnn_localvim_t_vitdet.py.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Total batch 64 (8 GPUs x 8), 184,375 iterations, AdamW lr 1e-4, wd 0.1, layer-wise lr decay 0.837, drop path 0.1
# (as in Vim; the paper is silent), seed 42.
_base_ = [
    './_base_/models/cascade_mask_rcnn_vitdet.py',
    './_base_/datasets/coco_instance_lsj.py',
    './_base_/schedules/vitdet.py',
    './_base_/det_runtime_iter.py',
]
pretrained = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vim_tiny.ckpt'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
