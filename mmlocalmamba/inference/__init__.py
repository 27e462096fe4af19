"""Running a trained model on pictures and videos: what ``tools/infer.py`` and ``tools/demo_page.py`` call.

inputs      finds the pictures and videos
trained     builds the model of a config and fills it with a checkpoint, every tensor accounted for
pipeline    reads a picture and prepares it, as the config's test data are
slicing     cuts a large picture into overlapping slices, and puts the results together
predictors  from pictures to boxes, label maps or scores
drawing     from those to overlays
writing     from those to JSON, COCO's format, label maps and videos
running     all of it, over many files
page        a web page for one picture at a time
"""
