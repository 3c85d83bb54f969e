"""What every tracker beside this file is asked, and how it is measured.

A driver makes a Tracker and calls main(). `python DRIVER TASK FOLDER ...` then
does one task in a process of its own and prints one JSON object:

    log FOLDER SECONDS      what a call costs: one scalar p50 and p99, 20 scalars p50
    ingest FOLDER SECONDS   log steps of 10 scalars as fast as it goes, and ask until
                            all points are there
    read FOLDER             one series of what was ingested
    fill FOLDER RUNS        short runs with parameters, one of which is filtered
    filter FOLDER           the 10 best runs with width = 128 and loss < LOSS_MAX
    kill FOLDER ACK         a point every millisecond, its number into the file ACK
                            as soon as the call has returned, until killed
    survivors FOLDER        how many of them are there afterwards

The values are noisy float32 losses, the same for all."""
import json
import mmap
import os
import random
import statistics
import struct
import sys
import time

RUN = "bench"
INGEST_KEYS = [f"metric/{i}" for i in range(10)]
LOSS_MAX, WIDTH = 1.5, 128
FILL_STEPS = 5
STEPS_AT_ONCE = 100


class Tracker:
    """One tracker."""
    name = "?"

    def load(self, folder):
        """Import it, so that no task measures that, and tell its version. ImportError:
        it is not installed."""
        raise NotImplementedError

    def open(self, folder, run, params):
        """Begin a run; log and finish are about it."""
        raise NotImplementedError

    def log(self, values, step):
        """{name: float} of one step, as its documentation has it in a training loop."""
        raise NotImplementedError

    def log_many(self, rows, first_step):
        """Many steps at once, where there is a call for that."""
        for step, values in enumerate(rows, first_step):
            self.log(values, step)

    def finish(self):
        raise NotImplementedError

    def count(self, folder, run):
        """How many points of the run a reader finds."""
        raise NotImplementedError

    def read(self, folder, run, key):
        """The values of one series, by the fastest way its documentation has."""
        raise NotImplementedError

    def fill(self, folder, runs):
        """Make the runs of run_of(): by default one after the other."""
        for number in range(runs):
            name, params, losses = run_of(number)
            self.open(folder, name, params)
            for step, loss in enumerate(losses, 1):
                self.log({"loss": loss}, step)
            self.finish()

    def filter(self, folder):
        """Names of the 10 runs with the smallest last loss below LOSS_MAX and
        width = WIDTH; None: it has no such query."""
        return None


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def losses_of(count):
    """Noisy losses, cheap to make beside what is measured."""
    rng = random.Random(7)
    return [float32(2.5 + 3 / (1 + 0.001 * i) + rng.gauss(0, 0.05)) for i in range(count)]


def run_of(number):
    rng = random.Random(number)
    params = {"lr": rng.uniform(1e-4, 1e-1), "width": rng.choice([64, 128, 256]), "seed": number}
    reached = 1 + rng.random()
    return (f"run-{number}", params,
            [float32(reached + 1 / step) for step in range(1, FILL_STEPS + 1)])


def best_runs(runs):
    """What filter() must find."""
    found = []
    for number in range(runs):
        name, params, losses = run_of(number)
        if params["width"] == WIDTH and losses[-1] < LOSS_MAX:
            found.append((losses[-1], name))
    return [name for _, name in sorted(found)[:10]]


def bytes_of(folder):
    return sum(os.lstat(os.path.join(top, name)).st_size
               for top, _, names in os.walk(folder) for name in names)


def latencies_us(tracker, values, seconds):
    """One by one, resting as between training steps: no queue is measured full."""
    samples, clock = [], time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    step = 0
    while clock() < end:
        for _ in range(20):
            step += 1
            begin = clock()
            tracker.log(values, step)
            samples.append((clock() - begin) / 1000)
        time.sleep(0.002)
    samples.sort()
    return samples


def task_log(tracker, folder, seconds):
    tracker.open(folder, RUN, {})
    tracker.log({"loss": 1.0}, 0)
    one = latencies_us(tracker, {"loss": 0.5}, float(seconds))
    tracker.finish()
    tracker.open(folder, RUN + "-20", {})
    many = latencies_us(tracker, {f"metric/{i}": i * 0.5 for i in range(20)}, float(seconds))
    tracker.finish()
    return {"one_p50_us": one[len(one) // 2], "one_p99_us": one[len(one) * 99 // 100],
            "many_p50_us": many[len(many) // 2]}


def task_ingest(tracker, folder, seconds):
    values = losses_of(100003)
    tracker.open(folder, RUN, {})
    empty = bytes_of(folder)
    begin = time.perf_counter()
    end, step, n = begin + float(seconds), 0, len(values)
    while time.perf_counter() < end:
        rows = [{key: values[(step + j + i) % n] for i, key in enumerate(INGEST_KEYS)}
                for j in range(1, STEPS_AT_ONCE + 1)]
        tracker.log_many(rows, step + 1)
        step += STEPS_AT_ONCE
    tracker.finish()
    points = step * len(INGEST_KEYS)
    while tracker.count(folder, RUN) < points:
        if time.perf_counter() > end + 120:
            raise RuntimeError(f"{points} points were logged, a reader finds "
                               f"{tracker.count(folder, RUN)}")
        time.sleep(0.01)
    took_s = time.perf_counter() - begin
    return {"points": points, "points_per_s": points / took_s,
            "bytes_per_point": (bytes_of(folder) - empty) / points}


def task_read(tracker, folder):
    begin = time.perf_counter()
    values = tracker.read(folder, RUN, INGEST_KEYS[0])
    took_s = time.perf_counter() - begin
    expected = losses_of(100003)
    right = all(value == expected[(i + 1) % len(expected)] for i, value in enumerate(values))
    return {"points": len(values), "points_per_s": len(values) / took_s, "exact": right}


def task_fill(tracker, folder, runs):
    if type(tracker).filter is not Tracker.filter:
        tracker.fill(folder, int(runs))
    return {}


def task_filter(tracker, folder):
    took, names = [], tracker.filter(folder)
    for _ in range(5):
        begin = time.perf_counter()
        tracker.filter(folder)
        took.append((time.perf_counter() - begin) * 1000)
    return {"ms": statistics.median(took), "names": names}


def task_kill(tracker, folder, ack):
    with open(ack, "r+b") as f:
        told = mmap.mmap(f.fileno(), 8)
    tracker.open(folder, RUN, {})
    step, due = 0, time.perf_counter()
    while True:
        step += 1
        tracker.log({"loss": 0.5}, step)
        struct.pack_into("<q", told, 0, step)
        due += 0.001
        time.sleep(max(0.0, due - time.perf_counter()))


def task_survivors(tracker, folder):
    return {"points": tracker.count(folder, RUN)}


def main(tracker):
    task, folder, *rest = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    try:
        version = tracker.load(folder)
        result = globals()["task_" + task](tracker, folder, *rest)
        result.update(name=tracker.name, version=version)
    except ImportError as e:
        result = {"missing": str(e)}
    # Trackers print on standard output as they like: the last line is ours.
    sys.stdout.write("\n" + json.dumps(result) + "\n")
    sys.stdout.flush()
