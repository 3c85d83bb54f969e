"""Gradient descent on x^2 / 2 with noise in the gradient: how far x is from 0, on average.

With a large rate it comes near 0 soon and stays restless, with a small one it is slow: best
is a rate that falls. What is worked out is the expectation itself, so nothing is drawn.

    python3 train.py --lr=0.1 --until=200
"""
import argparse

import pioche

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--until", type=int, default=200, help="the step at which it saves and ends")
args = parser.parse_args()

square, first = 100.0, 1  # the expectation of x^2; the noise has variance 1
with pioche.init() as run:
    saved = run.resume()
    if saved:
        square, first = saved["extra"]["square"], run.resume_step + 1
    for step in range(first, args.until + 1):
        square = (1 - args.lr) ** 2 * square + args.lr ** 2
        run.log({"loss": square / 2, "lr": args.lr}, step=step)
        if step == args.until or run.should_stop(step):
            run.checkpoint(step, {"extra": {"square": square}})
            break
