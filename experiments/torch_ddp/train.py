"""Handwritten digits by a small network, trained with DistributedDataParallel.

    torchrun --nproc-per-node=2 train.py --epochs=20
"""
import argparse
import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import pioche

TEST_IMAGES = 360


def load_data(seed):
    """1,797 images of 8 x 8 pixels, those for the test put aside."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, test = order[TEST_IMAGES:], order[:TEST_IMAGES]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def make_model(width):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(width * 16, 10))


def evaluate(model, data, device, rank, world):
    """The share of right answers; each rank looks at its part of the images."""
    right = torch.zeros(1, device=device)
    model.eval()
    with torch.no_grad():
        for images, labels in DataLoader(torch.utils.data.Subset(data, range(rank, len(data), world)), 64):
            right += (model(images.to(device)).argmax(1) == labels.to(device)).sum()
    model.train()
    dist.all_reduce(right)
    return right.item() / len(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32, help="images a rank and step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    has_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if has_gpu else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    torch.manual_seed(args.seed)

    train, test = load_data(args.seed)
    sampler = DistributedSampler(train, seed=args.seed)
    loader = DataLoader(train, args.batch, sampler=sampler)
    model = DistributedDataParallel(make_model(args.width).to(device))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    loss_of = nn.CrossEntropyLoss()

    first = 0
    run = pioche.init()
    saved = run.resume()
    if saved:
        model.module.load_state_dict(saved["model"].value(torch=True))
        optimizer.load_state_dict(saved["optim"].value(torch=True))
        first = saved["extra"]["epoch"] + 1
    for epoch in range(first, args.epochs):
        sampler.set_epoch(epoch)
        for i, (images, labels) in enumerate(loader):
            optimizer.zero_grad()
            loss = loss_of(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            run.log({"train/loss": loss.item()}, step=epoch * len(loader) + i + 1)
        accuracy = evaluate(model, test, device, rank, world)
        if rank == 0:
            print(f"epoch {epoch}: accuracy {accuracy:.4f}", flush=True)
            run.log({"test/accuracy": accuracy}, step=(epoch + 1) * len(loader))
            run.checkpoint((epoch + 1) * len(loader), {
                "model": model.module.state_dict(), "optim": optimizer.state_dict(), "extra": {"epoch": epoch}})
    dist.barrier()  # none closes its connections while another still needs them
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
