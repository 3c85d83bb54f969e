"""MLflow with its SQLite store, in process."""
import os

import tracker


class MLflow(tracker.Tracker):
    name = "MLflow"

    def load(self, folder):
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        import mlflow
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        self.mlflow = mlflow
        return mlflow.__version__

    def open(self, folder, run, params):
        self.mlflow.set_experiment("bench")
        self.run = self.mlflow.start_run(run_name=run).info.run_id
        if params:
            self.mlflow.log_params(params)

    def log(self, values, step):
        if len(values) == 1:
            (name, value), = values.items()
            self.mlflow.log_metric(name, value, step=step)
        else:
            self.mlflow.log_metrics(values, step=step)

    def log_many(self, rows, first_step):
        from mlflow.entities import Metric
        metrics = [Metric(name, value, 1790000000000 + step, step)
                   for step, values in enumerate(rows, first_step) for name, value in values.items()]
        self.mlflow.MlflowClient().log_batch(self.run, metrics=metrics, synchronous=True)

    def finish(self):
        self.mlflow.end_run()

    def run_id(self, run):
        found = self.mlflow.search_runs(
            experiment_names=["bench"], filter_string=f"attributes.run_name = '{run}'",
            output_format="list")
        return found[0].info.run_id

    def count(self, folder, run):
        run_id, client = self.run_id(run), self.mlflow.MlflowClient()
        return sum(len(client.get_metric_history(run_id, key))
                   for key in client.get_run(run_id).data.metrics)

    def read(self, folder, run, key):
        history = self.mlflow.MlflowClient().get_metric_history(self.run_id(run), key)
        return [metric.value for metric in history]

    def filter(self, folder):
        found = self.mlflow.search_runs(
            experiment_names=["bench"], max_results=10, output_format="list",
            filter_string=f"metrics.loss < {tracker.LOSS_MAX} AND params.width = '{tracker.WIDTH}'",
            order_by=["metrics.loss ASC"])
        return [run.info.run_name for run in found]


tracker.main(MLflow())
