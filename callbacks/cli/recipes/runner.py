"""Running stages: in order or side by side, each once, under one progress bar."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from callbacks.cli.recipes.preloaded import Preloaded
from callbacks.cli.recipes.process import StageProcess, environment, threads_each
from callbacks.cli.recipes.records import Place, Record, has_changed, new_record, set_aside, why_unfinished
from callbacks.cli.recipes.stage import Stage, dependencies, require_inputs
from datamodules.shards.output_lock import LockedError, OutputLock

#: What ends a recipe in order.
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
_SHOWN_LINES = 20


class StageError(RuntimeError):
    """A stage failed; the message has the end of its log and the command to repeat."""


class StoppedError(RuntimeError):
    """A signal stopped the stages; the message says how to go on.

    Args:
        message: the message.
        signum: the signal.
    """

    def __init__(self, message: str, signum: signal.Signals) -> None:
        super().__init__(message)
        #: 130 after Ctrl-C, 143 after a scheduler's signal, as the verbs have it.
        self.exit_status = 128 + (signum if signum in (signal.SIGINT, signal.SIGHUP) else signal.SIGTERM)


def run_stages(
    stages: Sequence[Stage],
    output: Path,
    *,
    jobs: int = 1,
    folder: Path = Path(),
    selected: Collection[str] | None = None,
    console: Console | None = None,
    preload: Sequence[str] = (),
) -> dict[str, float]:
    """Run what is not done yet, each stage in a process of its own; records and logs lie in the output.

    The same call goes on where an earlier one ended. Stages run in their order, `jobs` at a time, each as soon as those
    that write what it reads are done. When one fails, those that run are waited for and no other is started.

    Args:
        stages: the stages.
        output: the folder of records and logs, which one process holds.
        jobs: how many run side by side; each gets a share of the free cores (OMP_NUM_THREADS).
        folder: where they run, and what their paths are relative to.
        selected: names of those that are looked at; the others count as done. None = all.
        console: what is printed on.
        preload: modules that the stages import, none of which starts threads or CUDA: on Linux one process imports
            them, and makes the stages from itself; () = each stage imports for itself.

    Returns:
        stage name -> seconds, of those passed over from their records.

    Raises:
        ValueError: a fault of the stages, see `dependencies` and `require_inputs`; before any is run.
        StageError: a stage failed.
        StoppedError: SIGTERM, Ctrl-C or another signal arrived.
        LockedError: another process runs stages in this output.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; give 1 or more")
    graph = dependencies(stages, folder)
    names = [stage.name for stage in stages if selected is None or stage.name in selected]
    require_inputs(stages, graph, folder, names)
    with OutputLock(output):
        run = _Run(stages, graph, names, Place(output, folder), jobs, console or Console(), preload)
        return run.all()


class _Run:
    """One run of stages; arguments as `run_stages` has them."""

    def __init__(
        self,
        stages: Sequence[Stage],
        graph: dict[str, set[str]],
        names: Sequence[str],
        place: Place,
        jobs: int,
        console: Console,
        preload: Sequence[str],
    ) -> None:
        self.place, self.jobs, self.graph = place, jobs, graph
        self.waiting = [stage for stage in stages if stage.name in names]
        self.done = {stage.name for stage in stages if stage.name not in names}
        self.total = len(self.waiting)
        self.threads = threads_each(jobs)
        self.preload = preload if sys.platform == "linux" else ()
        self.preloaded: Preloaded | None = None
        self.running: dict[str, StageProcess] = {}
        self.records: dict[str, Record] = {}
        self.seconds: dict[str, float] = {}
        self.failures: list[str] = []
        #: Names of stages that have ended, and signals; filled by threads and by the handler of signals.
        self.events: SimpleQueue[str | signal.Signals] = SimpleQueue()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}", style="dim", markup=False),
        )
        self.bar = Progress(*columns, console=console)
        self.task: TaskID = self.bar.add_task("", total=self.total, status="")

    def all(self) -> dict[str, float]:
        """Run them all."""
        self.place.log("").parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.bar, _signals(self.events.put):
                while self._start_ready():
                    self._take_event()
        finally:  # an error of this process itself leaves none of them running
            for process in self.running.values():
                process.stop(signal.SIGKILL)
            if self.preloaded is not None:
                self.preloaded.close()
        if self.failures:
            raise StageError("\n".join([*self.failures, f"To go on:  {own_command()}"]))
        return self.seconds

    def _start_ready(self) -> bool:
        """Start what can run now, and pass over what is done; whether anything runs."""
        progress = True
        while progress and not self.failures:
            progress = False
            for stage in list(self.waiting):
                if not self.graph[stage.name] <= self.done or len(self.running) >= self.jobs:
                    continue
                self.waiting.remove(stage)
                self._start(stage)
                progress = True
        return bool(self.running)

    def _start(self, stage: Stage) -> None:
        path = self.place.record(stage.name)
        former = Record.read(path)
        reason = why_unfinished(stage, self.place.folder, former)
        if not reason:
            self.seconds[stage.name] = former.seconds if former is not None else 0.0
            self._is_done(stage, "done before")
            return
        if former is not None:
            self._say(f"{stage.name}: {reason}; run again")
            unable_to_go_on = stage.command[0] == "prepare" and not has_changed(stage, former)
            for moved, kept in set_aside(stage, self.place.folder) if former.finished or unable_to_go_on else ():
                self._say(f"  {moved} is kept as {kept}")
        record = new_record(stage, self.place.folder, former)
        record.write(path)
        self.records[stage.name] = record
        folder, log = self.place.folder, self.place.log(stage.name)
        if self.preload and self.preloaded is None:
            own_log = self.place.log("preloaded")
            self.preloaded = Preloaded(self.preload, folder, environment(self.threads), own_log)
        self.running[stage.name] = StageProcess(stage, folder, log, self.threads, self.events.put, self.preloaded)

    def _take_event(self) -> None:
        """Wait for the next end of a stage, or a signal; meanwhile show how far they are."""
        while True:
            self._show()
            try:
                event = self.events.get(timeout=1.0)
                break
            except Empty:
                continue
        if isinstance(event, signal.Signals):
            self._stop(event)
        process = self.running.pop(event)
        self._end(process)

    def _end(self, process: StageProcess) -> None:
        stage = process.stage
        missing = [path for path in stage.outputs(self.place.folder) if not path.exists()]
        if process.status == 0 and not missing:
            record = self._record(process, finished=True)
            self.seconds[stage.name] = record.seconds
            self._is_done(stage, f"{record.seconds:.0f} s")
            return
        self._record(process, finished=False)
        fault = f"failed with exit status {process.status}" if process.status else f"did not write {missing[0]}"
        where = "" if self.place.folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(self.place.folder))} && "
        self.failures.append(
            f"stage '{stage.name}' {fault}; {process.log} ends with:\n{process.last_lines(_SHOWN_LINES)}"
            f"To repeat it alone:  {where}{stage.line}"
        )
        self._say(f"{stage.name}: {fault}" + ("; waiting for those that still run" if self.running else ""))

    def _stop(self, signum: signal.Signals) -> NoReturn:
        """End in order what runs; a second signal ends it at once.

        Raises:
            StoppedError: always.
        """
        stopped = ", ".join(self.running)
        self._say(f"{signum.name}: waiting for {stopped} to stop in order; the signal once more ends them at once")
        for process in self.running.values():
            process.stop()
        while self.running:
            event = self.events.get()
            if isinstance(event, signal.Signals):
                for process in self.running.values():
                    process.stop(signal.SIGKILL)
            else:
                process = self.running.pop(event)
                self._record(process, finished=False)
        raise StoppedError(f"stopped by {signum.name} in {stopped}. To go on:  {own_command()}", signum)

    def _record(self, process: StageProcess, finished: bool) -> Record:
        name = process.stage.name
        record = self.records[name].ended_now(process.seconds, finished)
        record.write(self.place.record(name))
        return record

    def _is_done(self, stage: Stage, how: str) -> None:
        self.done.add(stage.name)
        self.bar.update(self.task, advance=1, status="")
        self._say(f"{len(self.seconds)}/{self.total} {stage.shown}: {how}")

    def _show(self) -> None:
        lines = {name: line for name, process in self.running.items() if (line := process.progress())}
        status = "; ".join(line if len(self.running) == 1 else f"{name} {line}" for name, line in lines.items())
        titles = ", ".join(process.stage.shown for process in self.running.values())
        self.bar.update(self.task, description=titles, status=status)

    def _say(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _signals(put: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Put the signals that end a recipe into its events; only the main thread can listen."""
    former = {}
    if threading.current_thread() is threading.main_thread():
        for name in _SIGNALS:
            if (signum := getattr(signal, name, None)) is not None:
                former[signum] = signal.signal(signum, lambda number, _: put(signal.Signals(number)))
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)


def exit_status(run: Callable[[], object]) -> int:
    """Run a recipe, demo or study; the exit status, with its message on the error stream where it did not end well."""
    try:
        run()
    except StoppedError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    except (StageError, ValueError, LockedError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def own_command() -> str:
    """The command line of this process, as a person would type it."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    module = specification.name.removesuffix(".__main__") if specification is not None else ""
    if module == "vidpref" or (not module and Path(sys.argv[0]).stem == "vidpref"):
        program = ["vidpref"]
    else:
        program = ["python", "-m", module] if module else ["python", sys.argv[0]]
    return shlex.join([*program, *sys.argv[1:]])
