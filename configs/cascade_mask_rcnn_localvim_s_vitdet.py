# Cascade Mask R-CNN with ViTDet's neck and heads, LocalVim-S, COCO 2017.
# Reproduces: nothing that was published; it is cascade_mask_rcnn_localvim_t_vitdet.py with the larger backbone.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Total batch 64 (8 GPUs x 8), 184,375 iterations, AdamW lr 1e-4, wd 0.1, layer-wise lr decay 0.837, drop path 0.1,
# seed 42.
_base_ = ['./cascade_mask_rcnn_localvim_t_vitdet.py']
pretrained = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vim_small.ckpt'
model = dict(
    backbone=dict(arch='small', init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    neck=dict(in_channels=384),
)
