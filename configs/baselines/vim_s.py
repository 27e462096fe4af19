# Vim-S, ImageNet-1k, 224 x 224: 26 M parameters, 5.1 G FLOPs. Published: 80.3 top-1 (paper table 2).
# Published weights: https://huggingface.co/hustvl/Vim-small-midclstok/resolve/main/vim_s_midclstok_80p5acc.pth
# They have 80.5 top-1 by Vim's own list.
# The drop path is that of Vim's script.
# Total batch 1024 (8 GPUs x 128), 300 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.05, seed 42. Not reproduced here.
_base_ = ['../imagenet/local_vim_s.py']
model = dict(backbone=dict(type='mmlocalmamba.Vim', out_type='cls_token', drop_path_rate=0.05))
