"""TensorBoard: event files by tensorboardX, read by TensorBoard's own reader."""
import os

import tracker


class TensorBoard(tracker.Tracker):
    name = "TensorBoard"

    def load(self, folder):
        import tensorboard.version
        import tensorboardX
        from tensorboard.backend.event_processing import event_accumulator
        self.writer_of, self.reader_of = tensorboardX.SummaryWriter, event_accumulator.EventAccumulator
        return f"{tensorboard.version.VERSION}, tensorboardX {tensorboardX.__version__}"

    def open(self, folder, run, params):
        self.writer = self.writer_of(os.path.join(folder, run))

    def log(self, values, step):
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self):
        self.writer.close()

    def reader(self, folder, run):
        return self.reader_of(os.path.join(folder, run), size_guidance={"scalars": 0}).Reload()

    def count(self, folder, run):
        reader = self.reader(folder, run)
        return sum(len(reader.Scalars(tag)) for tag in reader.Tags()["scalars"])

    def read(self, folder, run, key):
        return [event.value for event in self.reader(folder, run).Scalars(key)]


tracker.main(TensorBoard())
