"""A parameter grid: each point is a task, the results become a data frame and a picture.

    pip install 'tradewind[examples]'
    python grid.py

Workers import this file for `descend`. What only the end needs is imported there.
"""

import itertools
from typing import Any

import numpy as np
import tradewind


def descend(point: dict[str, Any]) -> dict[str, Any]:
    """Gradient descent with momentum in a long valley: how many steps it takes, if it arrives."""
    steepness = np.geomspace(0.01, 1.0, 50)
    position = np.random.default_rng(point["seed"]).normal(size=50)
    speed = np.zeros(50)
    for step in range(1, 2_001):
        speed = point["momentum"] * speed - point["rate"] * steepness * position
        position = position + speed
        height = float(steepness @ position**2)
        if height < 1e-4:
            return {"steps": step, "height": height}
        if height > 1e6:
            break
    return {"steps": None, "height": height}


def main() -> None:
    """The whole grid on this machine."""
    import matplotlib.pyplot as plt
    import pandas as pd

    rates, momenta, seeds = np.geomspace(0.05, 4.0, 16), np.linspace(0.0, 0.95, 12), range(3)
    points = [
        {"rate": rate, "momentum": momentum, "seed": seed}
        for rate, momentum, seed in itertools.product(rates.tolist(), momenta.tolist(), seeds)
    ]
    with tradewind.local() as farm:
        results = farm.map(descend, points, progress=True)
        frame = pd.DataFrame([point | result for point, result in zip(points, results, strict=True)])

    print(f"{frame['steps'].notna().sum()} of {len(frame)} descents arrive; the fastest:")
    print(frame.sort_values("steps").head(3).to_string(index=False))
    steps = frame.pivot_table(index="momentum", columns="rate", values="steps")
    plt.pcolormesh(steps.columns, steps.index, steps, norm="log")
    plt.xscale("log")
    plt.xlabel("rate")
    plt.ylabel("momentum")
    plt.colorbar(label="steps until it arrives")
    plt.savefig("grid.png")
    print("grid.png shows all of them")


if __name__ == "__main__":
    main()
