# Mask R-CNN as in ViTDet (Li et al., 2022): a pyramid from the last map alone, two convolutions in the RPN, four
# convolutions and one linear layer in the box head, LayerNorm over the channels in neck and heads.
_base_ = ['./mask_rcnn.py']
norm_cfg = dict(type='mmlocalmamba.LN2d', eps=1e-6)
model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),  # every image is 1024 x 1024, in training and in testing
    # The position table of 1024 x 1024 pixels, padding included; drop path as in Vim's detectors.
    backbone=dict(type='mmlocalmamba.LocalVim', arch='tiny', img_size=1024, out_indices=(19,), drop_path_rate=0.1),
    neck=dict(type='mmlocalmamba.SimpleFPN', in_channels=192, out_channels=256, num_outs=5, norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
