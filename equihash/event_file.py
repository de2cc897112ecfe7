"""The training log as an event file, for TensorBoard where it is installed."""

import sys


class EventFile:
    """The event file in a folder, which always says what the training log says.

    The first `update` writes the whole log anew and deletes what older processes wrote, so that after a kill nothing
    is there twice and nothing is missing. A problem is a warning, once: TensorBoard is a luxury.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder):
        self.folder, self.last, self.writer = folder, -1, None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception:  # not installed, or in versions that do not go together
            SummaryWriter = None
        self.make_writer = SummaryWriter

    def update(self, training_log, results):
        """Append the steps that are not written yet; see `write_log` for the parameters."""
        if self.make_writer is None:
            return
        try:
            if self.writer is None:
                for old in self.folder.glob("events.out.tfevents.*"):
                    old.unlink()
                # a TensorBoard that is running forgets what it has read
                self.writer = self.make_writer(self.folder, purge_step=0)
            for step in sorted({*training_log, *results["train"], *results["valid"]}):
                if step > self.last:
                    for name, value in scalars(step, training_log, results).items():
                        self.writer.add_scalar(name, value, step)
                    self.last = step
            self.writer.flush()
        except Exception as error:
            self._give_up(error)

    def close(self):
        try:
            if self.writer is not None:
                self.writer.close()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error):
        print(f"warning: no more events for TensorBoard in {self.folder}: {error}", file=sys.stderr)
        self.make_writer = self.writer = None


def scalars(step, training_log, results):
    """What is shown of a step: {"group/name": number}."""
    found = {f"training/{name}": value for name, value in training_log.get(step, {}).items()}
    for which, evaluations in results.items():
        evaluation = evaluations.get(step, {})
        for name in ("recall", "precision"):
            for distance, value in enumerate(evaluation.get(name, ())):
                found[f"{name}/{which}, Hamming <= {distance}"] = value
        for size, value in evaluation.get("worst_entropies", {}).items():
            found[f"worst entropy per bit/{which}, {size} bits"] = value / size
        for sign in ("positive", "negative"):
            name = f"{sign}_hamming_distances_median"
            if name in evaluation:
                found[f"median Hamming distance/{which}, {sign} pairs"] = evaluation[name]
    # published logs hold lists, too
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}
