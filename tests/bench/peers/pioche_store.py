"""pioche, as a program outside `pioche run` uses it: its own drainer, then a
command that takes the run in."""
import os
import sqlite3
import subprocess
import sys

import tracker

BUILD = os.environ["PIOCHE_BUILD"]
PIOCHE = os.path.join(BUILD, "pioche")
EXPERIMENT = "bench"
# A metric below, a parameter equal, the ten best: what `filter` asks of the others.
FILTER = """SELECT seed.value FROM series s
JOIN param width ON width.run_id = s.run_id AND width.name = 'width' AND width.value = ?
JOIN param seed ON seed.run_id = s.run_id AND seed.name = 'seed'
WHERE s.key = 'loss' AND s.last < ? ORDER BY s.last LIMIT 10"""


class Pioche(tracker.Tracker):
    name = "pioche"

    def load(self, folder):
        os.environ["PIOCHE_STORE"] = os.path.join(folder, ".pioche")
        sys.path.insert(0, os.path.join(BUILD, "lib", "pioche"))
        import pioche
        self.pioche, self.database = pioche, None
        return subprocess.run([PIOCHE, "--version"], capture_output=True, text=True,
                              check=True).stdout.split()[-1]

    def open(self, folder, run, params):
        self.run = self.pioche.init(EXPERIMENT, params={"name": run, **params})

    def log(self, values, step):
        self.run.log(values, step=step)

    def finish(self):
        self.run.finish()

    def rows(self, query, *binds):
        if not self.database:
            # Any command takes in what programs have left.
            subprocess.run([PIOCHE, "ls"], stdout=subprocess.DEVNULL, check=True)
            self.database = sqlite3.connect(os.path.join(os.environ["PIOCHE_STORE"], "pioche.db"))
        return self.database.execute(query, binds).fetchall()

    def count(self, folder, run):
        self.database = None
        return self.rows("SELECT sum(count) FROM series JOIN param USING (run_id) WHERE"
                         " param.name = 'name' AND param.value = ?", run)[0][0] or 0

    def read(self, folder, run, key):
        number, = self.rows("SELECT r.number FROM run r JOIN param p ON p.run_id = r.id WHERE"
                            " p.name = 'name' AND p.value = ?", run)[0]
        return self.pioche.read(f"{EXPERIMENT}-{number}", key).value

    def filter(self, folder):
        return [f"run-{seed}" for seed, in self.rows(FILTER, tracker.WIDTH, tracker.LOSS_MAX)]


tracker.main(Pioche())
