"""The loop of every training: optimisers, precision, processes, averaging, checkpoints; an objective says the rest."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from recon.training.continuing import (
    IMPATIENT,
    change_of_length,
    check_belongs,
    check_length,
    still_stopped,
)
from recon.training.loader import Loader
from recon.training.logs import Bar, Board, save_pictures, write_csv
from recon.training.objective import Batch, Objective, Setting, seeded
from recon.training.processes import gathered, own_part
from recon.training.schedules import Schedule, make_optimiser, make_schedule
from recon.training.state_files import load_state, save_state
from recon.training.validation import Validation

DROPOUT = 201  # the stream of torch's own random numbers
PICTURES = 4  # rows of a picture


class TrainingError(ArithmeticError):
    """A training cannot go on: its loss is not finite."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a fit runs; see `recon.train` for what each means."""

    epochs: int = 50
    lr: float | dict[str, float] | None = None
    optimiser: str | None = None
    schedule: str | None = None
    clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    patience: int | None = None
    monitor: str = "auto"
    checkpoint_seconds: float = 60.0
    validate_every: int = 1
    progress: bool | None = None
    tensorboard: bool = False
    callback: Callable[[dict[str, float]], bool | None] | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise ValueError(f"clip is the largest norm of a gradient, a number > 0, got {self.clip}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(
                f"ema is the decay of an average, a number in [0, 1) such as 0.999, got {self.ema}"
            )
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is a number of epochs >= 1, got {self.patience}")


class FitLoop:
    """Trains what an objective says, and can go on where it was killed.

    Args:
        fabric: devices, processes and precision (lightning-fabric), launched.
        objective: prepared.
        setting: what it trains with.
        loader: batches to train on.
        validation: what is measured after an epoch, or None.
        options: how.
        folder: where checkpoints, logs and pictures go; None: nowhere.
        identity: what `recon.training.continuing.identity_of` says: a checkpoint of another is refused.
    """

    def __init__(
        self,
        fabric: Fabric,
        objective: Objective,
        setting: Setting,
        loader: Loader,
        validation: Validation | None,
        options: Options,
        folder: Path | None,
        identity: dict[str, Any],
    ) -> None:
        self.fabric, self.objective, self.setting = fabric, objective, setting
        self.loader, self.validation, self.options = loader, validation, options
        self.folder, self.identity = folder, identity
        self.modules = objective.modules()
        self.parameters = objective.players()
        self.epoch, self.epochs, self.steps = 0, options.epochs, 0
        self.batch = 0
        self.pending: dict[str, int] = dict.fromkeys(self.parameters, 0)
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.best: float | None = None
        self.best_epoch = 0
        self.best_kept: dict[str, Tensor] | None = None
        self.without_last: dict[str, Any] | None = None  # see `_judgement`
        self.stopped = ""
        self.relengthened: list[str] = []
        self.seconds = 0.0
        self.averaged = copy.deepcopy(setting.network).requires_grad_(False) if options.ema else None
        self._set_up_optimisers()

    def _set_up_optimisers(self) -> None:
        self.optimisers: dict[str, Any] = {}  # fabric's, around torch's own
        self.rates: dict[str, float] = {}
        self.schedules: dict[str, Schedule] = {}
        given = self.options
        for player, parameters in self.parameters.items():
            own = self.objective.optimiser(player)
            rate = given.lr.get(player) if isinstance(given.lr, dict) else given.lr
            rate = float(own.get("lr", 1e-3) if rate is None else rate)
            spec = given.optimiser or own.get("optimiser", "adam")
            made = make_optimiser(spec, parameters, rate)
            self.optimisers[player] = self.fabric.setup_optimizers(made)
            self.rates[player] = rate
            self.schedules[player] = make_schedule(given.schedule or own.get("schedule", "cosine"))

    # What an objective calls

    def minimise(self, player: str, loss: Tensor) -> None:
        """Lower a loss by a step of a player; see `recon.training.objective.Fit`."""
        if player not in self.parameters:
            raise ValueError(f"there is no player {player!r}; there are {', '.join(self.parameters)}")
        if not bool(torch.isfinite(loss.detach())):
            raise TrainingError(
                f"the loss of {player!r} became {float(loss.detach())} in epoch {self.epoch + 1}: lower lr, clip the "
                "gradient (clip=1.0), or look at the range of the data"
            )
        self.fabric.backward(loss / self.options.accumulate, inputs=self.parameters[player])
        self.pending[player] += 1
        if self.pending[player] == self.options.accumulate:
            self._step(player)

    def _step(self, player: str) -> None:
        """One step of the optimiser by the gradients there are."""
        parameters, optimiser = self.parameters[player], self.optimisers[player]
        part = self.pending[player] / self.options.accumulate
        self.pending[player] = 0
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self._average_over_processes(gradients)
        self.fabric.strategy.precision.unscale_gradients(optimiser.optimizer)
        if part < 1:  # the last batches of an epoch: the mean of those that came
            for gradient in gradients:
                gradient.div_(part)
        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.options.clip)
        factor = self.schedules[player](self.progress, self.epoch)
        for group in optimiser.optimizer.param_groups:
            group["lr"] = self.rates[player] * factor
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if player == "network":
            self.steps += 1
            self._follow()

    @property
    def progress(self) -> float:
        """How much of the training is done, in [0, 1)."""
        return (self.epoch + self.batch / self.loader.batches) / max(self.epochs, 1)

    def _average_over_processes(self, gradients: list[Tensor]) -> None:
        """The mean over processes, in one message."""
        if self.fabric.world_size == 1 or not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        mean = self.fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(mean, Tensor)
        for gradient, piece in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(piece.reshape(gradient.shape))

    def _follow(self) -> None:
        """The moving average of the network's weights follows a step (quickly at first)."""
        if self.averaged is None or self.options.ema is None:
            return
        decay = min(self.options.ema, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            mine, theirs = self.averaged.state_dict(), self.setting.network.state_dict()
            for name, tensor in mine.items():
                if tensor.is_floating_point():
                    tensor.lerp_(theirs[name], 1 - decay)
                else:
                    tensor.copy_(theirs[name])

    # The loop

    def run(self) -> None:
        """Train to the end, from the last checkpoint if there is one; then the network is the one to keep.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another training.
            TrainingError: the loss is not finite.
        """
        self._resume()
        total = self.epochs * self.loader.batches
        saved = time.monotonic()
        is_main = self.fabric.is_global_zero
        board = Board(self._in_folder("tensorboard") if self.options.tensorboard and is_main else None)
        began, before = time.monotonic(), self.seconds
        with Bar(self.options.progress if is_main else False, total, self._done(), "training") as bar:
            while self.epoch < self.epochs and not self.stopped:
                for batch in self.loader.epoch(self.epoch, self.batch):
                    text = self._train_on(batch)
                    bar.move(self._done(), text)
                    self.seconds = before + time.monotonic() - began
                    if self._is_due(saved):
                        self._save()
                        saved = time.monotonic()
                self._end_epoch(board)
                self.seconds = before + time.monotonic() - began
                self._save()
                saved = time.monotonic()
        board.close()
        self._take_best()

    def _done(self) -> int:
        return self.epoch * self.loader.batches + self.batch

    def _train_on(self, batch: Batch) -> str:
        for module in self.modules.values():
            module.train()
        self._share_buffers()
        place = int(torch.randint(2**62, (), generator=self._stream()))
        torch.manual_seed(place)  # dropout: a function of the place in the data, so a resumed run goes on
        logged = self.objective.step(batch, self)
        self.batch += 1
        for name, value in logged.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        return " ".join(f"{name} {float(value):.4g}" for name, value in logged.items())

    def _stream(self) -> torch.Generator:
        return seeded(self.setting.seed, self.epoch, self.batch, self.fabric.global_rank, DROPOUT)

    def _share_buffers(self) -> None:
        """Running statistics are those of the first process, so that every process has the same network."""
        if self.fabric.world_size == 1:
            return
        for module in self.modules.values():
            for buffer in module.buffers():
                buffer.copy_(self.fabric.broadcast(buffer.detach(), src=0))

    def _end_epoch(self, board: Board) -> None:
        for player, count in self.pending.items():
            if count:
                self._step(player)
        self._share_buffers()
        row: dict[str, float] = {"epoch": self.epoch + 1}
        for name, total in self.sums.items():
            row[name] = self._mean_over_processes(total / max(self.batch, 1))
        for player, optimiser in self.optimisers.items():
            row[f"lr_{player}" if len(self.optimisers) > 1 else "lr"] = optimiser.optimizer.param_groups[0][
                "lr"
            ]
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        due = self.epoch % self.options.validate_every == 0
        if self.validation is not None and (due or self.epoch == self.epochs):
            self.without_last = None if due else self._judgement(row)
            row |= self._validated()
        row["seconds"] = round(self.seconds, 3)
        self.history.append(row)
        self._judge(row)
        if self.fabric.is_global_zero:
            board.add(row)
            if self.folder is not None:
                write_csv(self.folder / "log.csv", self.history)
        if self.options.callback is not None and self.options.callback(dict(row)):
            self.stopped = "the callback"

    def _judgement(self, row: dict[str, float]) -> dict[str, Any]:
        """What is known before the last epoch is validated out of turn, as a longer training would not do."""
        row = {**row, "seconds": round(self.seconds, 3)}
        return {"row": row, "best": self.best, "best_epoch": self.best_epoch, "best_kept": self.best_kept}

    def _mean_over_processes(self, value: float) -> float:
        if self.fabric.world_size == 1:
            return value
        mean: Any = self.fabric.all_reduce(torch.tensor(value, device=self.fabric.device), reduce_op="mean")
        return float(mean)

    def _validated(self) -> dict[str, float]:
        assert self.validation is not None
        with self._best_weights(), torch.no_grad():
            values, rows = self.validation.measure(self.objective, self.fabric, PICTURES)
        if self.folder is not None and self.fabric.is_global_zero:
            save_pictures(self.folder / "images" / f"epoch-{self.epoch:04d}.png", rows)
        return values

    @contextlib.contextmanager
    def _best_weights(self) -> Iterator[None]:
        """The network in evaluation, with its averaged weights where there are any."""
        network = self.setting.network
        for module in self.modules.values():
            module.eval()
        if self.averaged is None:
            yield
            return
        own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.averaged.state_dict())
        try:
            yield
        finally:
            network.load_state_dict(own)

    def _judge(self, row: dict[str, float]) -> None:
        """Whether this is the best epoch so far, and whether it is time to stop."""
        name = self.monitor
        if name not in row:
            return
        value = row[name] if name in ("psnr", "ssim") else -row[name]
        if self.best is None or value > self.best:
            self.best, self.best_epoch = value, self.epoch
            self.best_kept = {name: tensor.clone() for name, tensor in self._weights().items()}
            self._save_best()
        elif self.options.patience is not None and self.epoch - self.best_epoch >= self.options.patience:
            self.stopped = f"{IMPATIENT} {name} in {self.options.patience} epochs"

    @property
    def monitor(self) -> str:
        """What is watched: as said, else the objective's in the validation, else nothing: the last weights stay."""
        if self.options.monitor != "auto":
            return self.options.monitor
        return self.objective.monitor if self.validation is not None else "last"

    def _weights(self) -> dict[str, Tensor]:
        source = self.setting.network if self.averaged is None else self.averaged
        return dict(source.state_dict())

    def _take_best(self) -> None:
        """The weights to keep: of the best epoch, else the last ones; averaged where they are."""
        kept = self.best_kept
        self.setting.network.load_state_dict(self._weights() if kept is None else kept)
        self.setting.network.eval()

    # Checkpoints

    def _in_folder(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def _is_due(self, saved: float) -> bool:
        """Whether it is time for a checkpoint; the first process decides. Never between accumulated gradients."""
        if self.folder is None or any(self.pending.values()):
            return False
        due = time.monotonic() - saved >= self.options.checkpoint_seconds
        return bool(self.fabric.broadcast(due, src=0)) if self.fabric.world_size > 1 else due

    def _save(self) -> None:
        if self.folder is None:
            return
        self._share_buffers()
        own = gathered({"sums": self.sums, "objective": self.objective.state_dict()}, self.fabric)
        if self.fabric.is_global_zero:
            save_state(self.folder / "checkpoints" / "last.safetensors", self._state() | {"processes": own})
        self.fabric.barrier()

    def _save_best(self) -> None:
        if self.folder is None or not self.fabric.is_global_zero:
            return
        path = self.folder / "checkpoints" / "best.safetensors"
        if self.best_kept is None:
            path.unlink(missing_ok=True)
        else:
            kept = {"network": self.best_kept, "epoch": self.best_epoch, "identity": self.identity}
            save_state(path, kept)

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "relengthened": self.relengthened,
            "batch": self.batch,
            "steps": self.steps,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "modules": {name: dict(module.state_dict()) for name, module in self.modules.items()},
            "optimisers": {name: made.optimizer.state_dict() for name, made in self.optimisers.items()},
            "averaged": None if self.averaged is None else dict(self.averaged.state_dict()),
            "best_kept": self.best_kept,
            "without_last": self.without_last,
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def _resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        path = None if self.folder is None else self.folder / "checkpoints" / "last.safetensors"
        if path is None or not path.exists():
            return
        state = load_state(path)
        check_belongs(state, self.identity, path)
        done = state["epoch"] + state["batch"] / self.loader.batches
        check_length(state, self.epochs, done, self.objective, path)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, made in self.optimisers.items():
            made.optimizer.load_state_dict(state["optimisers"][name])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        own = own_part(state["processes"], self.fabric, path)
        self.sums = own["sums"]
        self.objective.load_state_dict(own["objective"])
        for name in (
            "epoch",
            "batch",
            "steps",
            "history",
            "best",
            "best_epoch",
            "stopped",
            "relengthened",
            "seconds",
        ):
            setattr(self, name, state[name])
        self.best_kept = state["best_kept"]
        before, self.without_last = state["epochs"], state.get("without_last")
        if self.epochs > before and self.without_last is not None:
            self._judge_last_again(self.without_last)
        fruitless = self.epoch - self.best_epoch
        if before != self.epochs:
            self.relengthened = [
                *self.relengthened,
                change_of_length(before, self.epochs, done, self.schedules),
            ]
        self.stopped = still_stopped(self.stopped, self.epochs > before, self.options.patience, fruitless)

    def _judge_last_again(self, known: dict[str, Any]) -> None:
        """Judge the last epoch as if it had not been validated out of turn: more epochs follow it now."""
        self.history[-1] = known["row"]
        self.best, self.best_epoch, self.best_kept = known["best"], known["best_epoch"], known["best_kept"]
        self.without_last = None
        if self.stopped.startswith(IMPATIENT):
            self.stopped = ""
        self._save_best()
        self._judge(known["row"])
