# Mask R-CNN, Swin-T, COCO 2017, 1x: 48 M parameters, 267 G FLOPs at 1280 x 800.
# Reproduces: paper table 3, 1x, Swin-T. Published: 42.7 box AP, 39.3 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# The published figure is of its authors' or MMDetection's recipe; this is LocalVMamba's.
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = ['../mask_rcnn_localvmamba_t_1x.py']
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.SwinTransformer',
        drop_path_rate=0.2,
        convert_weights=True,  # the file has its authors' names
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
)
