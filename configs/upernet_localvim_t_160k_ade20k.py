# UperNet, LocalVim-T, ADE20K: 36 M parameters, 181 G FLOPs at 512 x 2048.
# Reproduces: paper table 4, LocalVim-T. Published: 43.4 mIoU single-scale, 44.4 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.1 (as in
# MMSegmentation's ViT example, which the paper follows), seed 42.
_base_ = [
    './_base_/models/upernet_localvim.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/seg_160k.py',
    './_base_/seg_runtime.py',
]
pretrained = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vim_tiny.ckpt'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
