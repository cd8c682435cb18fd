"""Millions of hostile inputs: `python -m tests.fuzz.soak --inputs 10000000`.

With atheris (`pip install atheris`, or this project's extra `soak`) the inputs are guided by the coverage of common/;
without it they are random and mutated, from seeds. An input that crashes a target is kept in tests/fuzz/crashes/ and
is replayed by the test suite from then on.
"""

import argparse
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
import time
from pathlib import Path

CRASHES = Path(__file__).with_name("crashes")
INPUT_BYTES_MAX = 400
WEIGHTS = {
    "control_to_sink": 200,
    "control_from_sink": 200,
    "batch": 150,
    "arguments": 150,
    "results": 100,
    "joining": 80,
    "dispatch": 50,
    "holding": 50,
    "collection": 12,
    "child_link": 6,
    "key_file": 2,
}
"""How the inputs are shared out: by how many a second each target takes."""
_COUNT = "stat::number_of_executed_units: "
_GUIDED = importlib.util.find_spec("atheris") is not None


def mutated(source: random.Random, seed: bytes) -> bytes:
    """The seed with a few bytes changed, put in or left out; or something new."""
    if not source.randrange(4):
        return source.randbytes(source.choice((3, 10, 40, 120, INPUT_BYTES_MAX)))
    made = bytearray(seed)
    for _ in range(source.randint(1, 4)):
        at = source.randint(0, len(made))
        made[at : at + source.randint(0, 2)] = source.randbytes(source.randint(0, 2))
    return bytes(made[:INPUT_BYTES_MAX])


def run_guided(target: str, inputs: int, seed: int) -> None:
    """Let libFuzzer do it; it ends this process."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["common"]):
        from tests.fuzz.targets import TARGETS
    options = [f"-runs={inputs}", f"-seed={seed}", f"-max_len={INPUT_BYTES_MAX}", "-print_final_stats=1", "-timeout=20"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={CRASHES}/{target}-"], TARGETS[target])
    atheris.Fuzz()


def run_random(target: str, inputs: int, seed: int) -> None:
    """The same without coverage."""
    from tests.fuzz.targets import TARGETS

    source, content, done = random.Random(seed), b"", 0
    try:
        while done < inputs:
            done += 1
            content = mutated(source, content)
            TARGETS[target](content)
    except Exception:
        digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        (CRASHES / f"{target}-crash-{digest}").write_bytes(content)
        raise
    finally:
        print(f"{_COUNT}{done}", file=sys.stderr)


def run_children(target: str, inputs: int, seed: int) -> tuple[int, int]:
    """Run the target in processes of their own; returns how many inputs it took and how many processes crashed."""
    processes = 1 if _GUIDED else 2
    command = [sys.executable, "-m", "tests.fuzz.soak", "--child", "--target", target]
    command += ["--inputs", str(-(-inputs // processes)), "--seed"]
    children = [
        subprocess.Popen([*command, str(seed + each)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for each in range(processes)
    ]
    said = [child.communicate()[1].decode(errors="replace") for child in children]
    for child, text in zip(children, said, strict=True):
        if child.returncode:
            print(text[-3_000:], file=sys.stderr)
    counts = [int(count) for text in said for count in re.findall(_COUNT + r"(\d+)", text)]
    return sum(counts), sum(child.returncode != 0 for child in children)


def main() -> int:
    options = argparse.ArgumentParser(description="Fuzz the decoders and the machines.")
    options.add_argument("--inputs", type=int, default=10_000_000, help="of all targets together")
    options.add_argument("--target", choices=sorted(WEIGHTS), help="only this one")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        (run_guided if _GUIDED else run_random)(given.target, given.inputs, given.seed)
        return 0
    if not _GUIDED:
        print("atheris is not installed: the inputs are seeded mutations, not guided by coverage")
    chosen = {given.target: 1} if given.target else WEIGHTS
    total = crashed = 0
    print(f"{'target':<20}{'inputs':>12}{'crashes':>9}{'seconds':>9}")
    for target, weight in chosen.items():
        began = time.monotonic()
        count, crashes = run_children(target, -(-given.inputs * weight // sum(chosen.values())), given.seed)
        total, crashed = total + count, crashed + crashes
        print(f"{target:<20}{count:>12,}{crashes:>9}{time.monotonic() - began:>9.0f}", flush=True)
    print(f"{'all':<20}{total:>12,}{crashed:>9}")
    return 1 if crashed or total < given.inputs else 0


if __name__ == "__main__":
    sys.exit(main())
