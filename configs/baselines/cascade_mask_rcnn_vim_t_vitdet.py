# Cascade Mask R-CNN with ViTDet's neck and heads, Vim-T, COCO 2017.
# Reproduces: paper table 6, Vim-Ti. Published: 45.7 box AP, 39.2 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Neither parameters nor FLOPs were published.
# Total batch 64 (8 GPUs x 8), 184,375 iterations, AdamW lr 1e-4, wd 0.1, layer-wise lr decay 0.837, drop path 0.1, seed
# 42.
_base_ = ['../cascade_mask_rcnn_localvim_t_vitdet.py']
pretrained = 'https://huggingface.co/hustvl/Vim-tiny-midclstok/resolve/main/vim_t_midclstok_76p1acc.pth'
model = dict(
    backbone=dict(type='mmlocalmamba.Vim', out_indices=(23,), init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
