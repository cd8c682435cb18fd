"""The classic lesson: put ten random numbers, let workers square them, print the results.

python examples/tutorial.py
"""

import random

import tradewind


def square(n):
    print(f"run task {n} * {n}...")
    return n * n


if __name__ == "__main__":
    with tradewind.local() as farm:
        numbers = [random.randint(0, 10_000) for _ in range(10)]
        for n, result in zip(numbers, farm.map(square, numbers), strict=True):
            print(f"Result: {n} * {n} = {result}")
