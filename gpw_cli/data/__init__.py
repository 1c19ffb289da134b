"""The pictures: CIFAR-10, the embedded digits, folders of one's own."""
