import sys

import onnxruntime

from gpw_cli.data.images import normalise
from gpw_cli.data.registry import load_images

data = load_images("digits", None, None, 16, 1)
session = onnxruntime.InferenceSession(sys.argv[1])
name = session.get_inputs()[0].name
(logits,) = session.run(None, {name: normalise(data.test.images, data.mean, data.std).numpy()})
print(f"{100 * (logits.argmax(1) == data.test.labels.numpy()).mean():.2f} % by onnxruntime")
