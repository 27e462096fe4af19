# UperNet, LocalVMamba-S, ADE20K: 81 M parameters, 1095 G FLOPs at 512 x 2048.
# Reproduces: paper table 4, LocalVMamba-S. Published: 50.0 mIoU single-scale, 51.0 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.3 (as in VMamba and
# Swin; the paper is silent), seed 42.
_base_ = ['./upernet_localvmamba_t_160k_ade20k.py']
pretrained = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/local_vssm_small.ckpt'
model = dict(backbone=dict(arch='small', drop_path_rate=0.3, init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
