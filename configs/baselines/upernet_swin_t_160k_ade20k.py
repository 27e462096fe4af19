# UperNet, Swin-T, ADE20K: 60 M parameters, 945 G FLOPs at 512 x 2048.
# Reproduces: paper table 4, Swin-T. Published: 44.4 mIoU single-scale, 45.8 multi-scale + flip (--tta of
# tools/test.py). Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# Total batch 16 (8 GPUs x 2), 160,000 iterations of 512 x 512, AdamW lr 6e-5, wd 0.01, drop path 0.3 (as in
# MMSegmentation), seed 42.
_base_ = ['../upernet_localvmamba_t_160k_ade20k.py']
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.SwinTransformer',
        drop_path_rate=0.3,
        convert_weights=True,  # the file has its authors' names
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
)
