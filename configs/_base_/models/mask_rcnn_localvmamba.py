_base_ = ['./mask_rcnn.py']
model = dict(
    backbone=dict(type='mmlocalmamba.LocalVMamba', arch='tiny', drop_path_rate=0.2, padding='skip'),
    neck=dict(type='FPN', in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5),
)
