"""`python -m simulation`: the long form. Prints what ran and what was broken; exit code 1 if anything was."""

import argparse
import sys
import time

from simulation.run import simulate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1, help="so many seeds, from --seed on")
    parser.add_argument("--invocations", type=int, default=1_000_000)
    parser.add_argument("--executors", type=int, default=200)
    parser.add_argument("--rate", type=float, default=2000.0, help="invocations a second, in virtual time")
    parser.add_argument("--fault-every", type=float, default=5.0, help="seconds, in virtual time")
    given = parser.parse_args()
    bad = 0
    for seed in range(given.seed, given.seed + given.runs):
        began = time.monotonic()
        outcome = simulate(
            seed,
            invocations=given.invocations,
            executors=given.executors,
            rate=given.rate,
            fault_every=given.fault_every,
        )
        print(outcome.text(time.monotonic() - began), flush=True)
        bad += bool(outcome.problems)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
