# UperNet, LocalVim-S, ADE20K: 58 M parameters, 297 G FLOPs at 512 x 2048.
# Reproduces: paper table 4, LocalVim-S. Published: 46.4 mIoU single-scale, 47.5 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.1 (as in
# MMSegmentation's ViT example, which the paper follows), seed 42.
_base_ = ['./upernet_localvim_t_160k_ade20k.py']
pretrained = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vim_small.ckpt'
model = dict(
    backbone=dict(arch='small', init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
