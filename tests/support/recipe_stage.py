"""A stage for tests of the runner: ``python -m tests.support.recipe_stage OUTPUT [SECONDS] [STATUS]``.

It writes which environment and process it has, when it began and when it ended; SIGTERM makes it write that it came,
and end with 143.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn


def main() -> None:
    output, seconds, status = Path(sys.argv[1]), *map(float, [*sys.argv[2:], "0", "0"][:2])
    stopped = output.with_name(f"{output.name}.stopped")

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        stopped.touch()
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, stop)
    began = time.time()
    output.with_name(f"{output.name}.began").write_text(str(os.getpid()))
    print(f"step 3: loss 0.5 of {output.name}", flush=True)
    time.sleep(seconds)
    if status:
        print(f"{output.name}: error: no such luck")
        raise SystemExit(int(status))
    environment = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    process = {
        "pid": os.getpid(),
        "leads a session": os.getsid(0) == os.getpid(),
        "main": sys.modules["__main__"].__spec__.name,
        "imported": "wave" in sys.modules,
    }
    output.write_text(json.dumps({"began": began, "ended": time.time()} | environment | process))
    # A child of its own has an end that it can wait for.
    subprocess.run([sys.executable, "-c", ""], check=True)
    atexit.register(output.with_name(f"{output.name}.exited").touch)


if __name__ == "__main__":
    main()
