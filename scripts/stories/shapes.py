from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

draw = {
    "circle": lambda d, b: d.ellipse(b, fill="white"),
    "cross": lambda d, b: (d.line(b, "white", 4), d.line((b[0], b[3], b[2], b[1]), "white", 4)),
    "frame": lambda d, b: d.rectangle(b, outline="white", width=3),
    "square": lambda d, b: d.rectangle(b, fill="white"),
    "stripe": lambda d, b: d.line((b[0], b[1], b[2], b[1]), "white", 5),
}
random = Random(0)
for part, count in (("train", 40), ("val", 10)):
    for name, shape in draw.items():
        Path("shapes", part, name).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (32, 32), tuple(random.randrange(90) for _ in range(3)))
            x, y, size = random.randrange(3, 10), random.randrange(3, 10), random.randrange(14, 20)
            shape(ImageDraw.Draw(image), (x, y, x + size, y + size))
            image.save(f"shapes/{part}/{name}/{number}.png")
