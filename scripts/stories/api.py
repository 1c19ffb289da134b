import gpw_cli as gpw
from gpw_cli.models.digits_cnn import DigitsCnn

data = gpw.load_images("digits", None, None, 16, 1)
images = gpw.normalise(data.train.images[:256], data.mean, data.std)
model = DigitsCnn(10, 1)
gpw.finetune(model, {}, data, recipe="digits", epochs=2)
masks = gpw.prune(model, images, sparsity=0.5).masks
gpw.finetune(model, masks, data, recipe="digits_restart", epochs=1)
compiled = gpw.compile(gpw.quantize(model.eval(), images), target="vta")
print(f"{gpw.cycles(compiled).cycles:,} cycles, {gpw.cycles(compiled).milliseconds:.3f} ms")
