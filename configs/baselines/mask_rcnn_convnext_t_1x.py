# Mask R-CNN, ConvNeXt-T, COCO 2017, 1x: 48 M parameters, 262 G FLOPs at 1280 x 800.
# Reproduces: paper table 3, 1x, ConvNeXt-T. Published: 44.2 box AP, 40.1 mask AP. Not reproduced here.
# Starts from: the published ImageNet weights; --cfg-options pretrained=<file or URL> gives others.
# The published figure is of its authors' or MMDetection's recipe; this is LocalVMamba's.
# Total batch 16 (8 GPUs x 2), 12 epochs, AdamW lr 1e-4, wd 0.05, drop path 0.2, seed 42.
_base_ = ['../mask_rcnn_localvmamba_t_1x.py']
pretrained = 'https://dl.fbaipublicfiles.com/convnext/convnext_tiny_1k_224_ema.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocalmamba.ConvNeXt',
        arch='tiny',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
)
