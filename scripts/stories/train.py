import torch
from mynet import MyNet
from sklearn.datasets import load_digits

digits = load_digits()
x = torch.nn.functional.interpolate(
    torch.tensor(digits.images / 16)[:, None], size=16, mode="bilinear"
)
x, y = ((x - 0.305) / 0.318).float(), torch.tensor(digits.target)
torch.manual_seed(0)
net = MyNet()
step = torch.optim.AdamW(net.parameters(), 3e-3)
for _ in range(4):
    for rows in torch.randperm(len(x)).split(64):
        step.zero_grad()
        torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        step.step()
torch.save(net.state_dict(), "mine.pth")
torch.onnx.export(net.eval(), x[:1], "net.onnx", dynamo=False)
