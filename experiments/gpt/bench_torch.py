"""The model of experiments/gpt in eager PyTorch on one CPU thread, for a ratio.

Same shapes, same untied head, same AdamW and clipping, same windows a step.
Prints one JSON line with tokens_per_s, the best of a few groups of steps.
Exit status 4 when torch is not installed.
"""

import argparse
import json
import math
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    print("bench_torch: torch is not installed", file=sys.stderr)
    sys.exit(4)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            y.view(b, t, self.heads, c // self.heads).transpose(1, 2)
            for y in self.qkv(self.norm1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, width, heads, depth, context):
        super().__init__()
        self.token = nn.Embedding(256, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.last = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)
        self.register_buffer("places", torch.arange(context))
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                small = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=1 / math.sqrt(3 * width * (2 * depth if small else 1)))

    def forward(self, tokens):
        x = self.token(tokens) + self.position(self.places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))


def measure(args):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    with open(args.text, "rb") as file:
        text = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    model = Model(args.width, args.heads, args.depth, args.context)
    matrices = [p for n, p in model.named_parameters()
                if p.ndim == 2 and not n.startswith(("token", "position"))]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=3e-3, betas=(0.9, 0.95))
    best = 0.0
    for group in range(args.groups + 1):
        begin = time.perf_counter()
        for _ in range(args.steps):
            at = torch.randint(len(text) - args.context, (args.batch,))
            windows = torch.stack([text[i:i + args.context + 1] for i in at.tolist()]).long()
            logits = model(windows[:, :-1])
            loss = F.cross_entropy(logits.reshape(-1, 256), windows[:, 1:].reshape(-1))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
        seconds = time.perf_counter() - begin
        if group > 0:  # the first warms up
            best = max(best, args.steps * args.batch * args.context / seconds)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True)
    for name, value in (("width", 64), ("heads", 4), ("depth", 2), ("context", 128),
                        ("batch", 8), ("steps", 40), ("groups", 5)):
        parser.add_argument("--" + name, type=int, default=value)
    args = parser.parse_args()
    print(json.dumps({
        "name": "gpt_torch", "tokens_per_s": round(measure(args)), "torch": torch.__version__,
        "width": args.width, "heads": args.heads, "depth": args.depth,
        "context": args.context, "batch": args.batch}))


if __name__ == "__main__":
    main()
