# UperNet, Vim-S, ADE20K.
# Reproduces: paper table 4, Vim-S. Published: 44.9 mIoU single-scale. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# The published model has 46 M parameters: its heads are others. These are LocalVim's, as is the recipe.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.1, seed 42.
_base_ = ['../upernet_localvim_s_160k_ade20k.py']
pretrained = 'https://huggingface.co/hustvl/Vim-small-midclstok/resolve/main/vim_s_midclstok_80p5acc.pth'
model = dict(
    backbone=dict(
        type='mmlocalmamba.Vim', out_indices=(5, 11, 17, 23), init_cfg=dict(type='Pretrained', checkpoint=pretrained)
    ),
)
