"""W&B offline. It has no reader of what it wrote but its upload: the file's
frames are read here, the records by its own protobuf classes."""
import glob
import json
import os
import struct

import tracker

BLOCK, HEADER = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


def frames(path):
    """Payloads of the whole records of a .wandb file, as in LevelDB's log."""
    with open(path, "rb") as f:
        data = f.read()
    at, parts = HEADER, []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        at += HEADER
        if not kind or at + length > len(data):
            return
        if kind in (FULL, FIRST):
            parts = []
        parts.append(data[at:at + length])
        at += length
        if kind in (FULL, LAST):
            yield b"".join(parts)


class WandB(tracker.Tracker):
    name = "W&B offline"

    def load(self, folder):
        os.environ.update(WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
        import wandb
        from wandb.proto import wandb_internal_pb2
        self.wandb, self.record = wandb, wandb_internal_pb2.Record()
        return wandb.__version__

    def open(self, folder, run, params):
        settings = self.wandb.Settings(console="off", x_disable_stats=True, disable_git=True)
        folder = os.path.join(folder, run)
        os.makedirs(folder, exist_ok=True)
        self.run = self.wandb.init(project="bench", name=run, mode="offline", dir=folder,
                                   config=params, settings=settings, reinit="finish_previous")

    def log(self, values, step):
        self.run.log(values, step=step)

    def finish(self):
        self.run.finish()

    def rows(self, folder, run):
        path, = glob.glob(os.path.join(folder, run, "wandb", "offline-run-*", "run-*.wandb"))
        for payload in frames(path):
            self.record.ParseFromString(payload)
            if self.record.WhichOneof("record_type") == "history":
                yield {"/".join(item.nested_key) or item.key: item.value_json
                       for item in self.record.history.item}

    def count(self, folder, run):
        return sum(sum(not key.startswith("_") for key in row) for row in self.rows(folder, run))

    def read(self, folder, run, key):
        return [json.loads(row[key]) for row in self.rows(folder, run) if key in row]


tracker.main(WandB())
