import sys
from pathlib import Path

import onnxruntime

import gpw_cli as gpw

data = gpw.load_images("digits", None, Path(".gpw/data"), size=16, channels=1)
session = onnxruntime.InferenceSession(sys.argv[1])
name = session.get_inputs()[0].name
(logits,) = session.run(None, {name: gpw.normalise(data.test.images, data.mean, data.std).numpy()})
print(f"{100 * (logits.argmax(1) == data.test.labels.numpy()).mean():.2f} % by onnxruntime")
