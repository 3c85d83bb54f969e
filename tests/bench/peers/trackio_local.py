"""trackio, local: SQLite written by a thread of the program."""
import os

import tracker

PROJECT = "bench"
# The filter as trackio's own `query` would run it: its newest row of each run.
FILTER = """SELECT m.run_name, json_extract(m.metrics, '$.loss') AS loss FROM metrics m
JOIN configs c ON c.run_id = m.run_id
WHERE m.id IN (SELECT max(id) FROM metrics GROUP BY run_id)
AND json_extract(c.config, '$.width') = %d AND loss < %g ORDER BY loss LIMIT 10"""


class Trackio(tracker.Tracker):
    name = "trackio"

    def load(self, folder):
        os.environ["TRACKIO_DIR"] = folder
        import trackio
        from trackio.sqlite_storage import SQLiteStorage
        self.trackio, self.storage = trackio, SQLiteStorage
        return trackio.__version__

    def open(self, folder, run, params):
        self.trackio.init(project=PROJECT, name=run, config=params, embed=False,
                          auto_log_gpu=False, auto_log_cpu=False)

    def log(self, values, step):
        self.trackio.log(values, step=step)

    def finish(self):
        self.trackio.finish()

    def count(self, folder, run):
        own = {"step", "timestamp"}
        return sum(len(row.keys() - own) for row in self.storage.get_logs(PROJECT, run))

    def read(self, folder, run, key):
        return [row[key] for row in self.storage.get_logs(PROJECT, run)]

    def filter(self, folder):
        rows = self.storage.query_project(PROJECT, FILTER % (tracker.WIDTH, tracker.LOSS_MAX))
        return [row["run_name"] if isinstance(row, dict) else row[0] for row in rows["rows"]]


tracker.main(Trackio())
