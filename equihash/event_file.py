"""The training log as an event file for TensorBoard, if that is installed."""

import sys
from contextlib import contextmanager
from pathlib import Path


class EventFile:
    """The training log of a run as an event file in `folder`.

    A run that resumes writes a new file, from the last step of its log; TensorBoard drops that step and later ones from
    older files. So after a kill nothing is shown twice and nothing is missing. A problem with TensorBoard is a warning,
    once, and no reason to stop.
    """

    def __init__(self, folder: Path):
        self.folder, self.last, self.writer = folder, -1, None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception:  # not installed, or in versions that do not go together
            SummaryWriter = None
        self.make_writer = SummaryWriter

    def update(self, training_log: dict[int, dict], results: dict[str, dict[int, dict]]) -> None:
        """Append the steps that are not written yet; see `write_log` for the parameters."""
        if self.make_writer is None:
            return
        with self._warning():
            steps = sorted({*training_log, *results["train"], *results["valid"]})
            if self.writer is None:
                if any(self.folder.glob("events.out.tfevents.*")):
                    self.last = max(steps, default=0) - 1
                self.writer = self.make_writer(self.folder, purge_step=self.last + 1)
            for step in steps:
                if step > self.last:
                    for name, value in scalars(step, training_log, results).items():
                        self.writer.add_scalar(name, value, step)
                    self.last = step
            self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            with self._warning():
                self.writer.close()

    @contextmanager
    def _warning(self):
        try:
            yield
        except Exception as error:
            print(f"warning: no more events for TensorBoard in {self.folder}: {error}", file=sys.stderr)
            self.make_writer = self.writer = None


def scalars(step: int, training_log: dict[int, dict], results: dict[str, dict[int, dict]]) -> dict[str, float]:
    """Return {"group/name": number} of a step."""
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
    # published logs also have lists
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}
