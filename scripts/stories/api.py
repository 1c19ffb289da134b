from pathlib import Path

import torch

import gpw_cli as gpw
from gpw_cli.models.digits_cnn import DigitsCnn

torch.manual_seed(0)
data = gpw.load_images("digits", None, Path(".gpw/data"), size=16, channels=1)
train, test = (gpw.normalise(x.images, data.mean, data.std) for x in (data.train, data.test))
model = DigitsCnn(10, 1)
gpw.finetune(model, {}, data, recipe="digits", epochs=2)
masks = gpw.prune(model, train[:256], sparsity=0.5).masks
gpw.finetune(model, masks, data, recipe="digits_restart", epochs=1)
graph = gpw.quantize(model.eval(), train[:256])
compiled = gpw.compile(graph, target="vta")
right = gpw.simulate(compiled, graph, test).argmax(1) == data.test.labels.numpy()
print(f"{100 * right.mean():.2f} %, {gpw.cycles(compiled).milliseconds:.3f} ms")
