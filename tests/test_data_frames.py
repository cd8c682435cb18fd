"""The page on data frames as it stands."""

from importlib.util import find_spec

import pytest

from tests.conftest import TOP, Pipeline, start
from tests.test_readme import blocks, lines, typed

PAGE = TOP / "docs" / "data-frames.md"
missing = [name for name in ("duckdb", "pandas", "polars", "pyarrow") if find_spec(name) is None]
if missing:
    pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)
CHECKS = """
assert (best.shape, best["argument.rate"].item()) == ((1, 2), 0.4)
assert list(frame["loss"]) == list(pandas.read_parquet("grid.parquet")["value.loss"]) == list(
    pandas.read_csv("grid.csv")["value.loss"])
assert list(frame.columns) == ["rate", "steps", "loss", "x"]
assert len(times) == 3 and times.min() > 0
outcome = tradewind.Outcome(0, True, {"a": 1}, None, 1, "ada", 0.25, 3)
for kind in (pandas.DataFrame, polars.DataFrame):
    assert list(kind(iter([outcome])).columns) == [
        "task", "ok", "value", "error", "attempt", "worker", "seconds", "position"]
try:
    list(job)
except RuntimeError as error:
    assert "inside its `with` block" in str(error)
else:
    raise AssertionError("the farm is closed")
duckdb.sql("COPY (SELECT '{\\"key\\": 2.5}' AS \\"value.map\\") TO 'json.parquet'")
assert duckdb.sql("SELECT \\"value.map\\" ->> 'key' FROM 'json.parquet'").fetchall() == [("2.5",)]
decoded = polars.read_parquet("json.parquet").select(polars.col("value.map").str.json_decode(
    polars.Struct({"key": polars.Float64})))
assert decoded.item() == {"key": 2.5}
"""


def test_the_page_on_data_frames(programs: Pipeline) -> None:
    [module] = blocks(PAGE, "Write a table", "python")
    programs.module("fit", module)
    [commands] = blocks(PAGE, "Write a table")
    points = commands.split("<< 'END'\n")[1].split("END\n")[0]
    (programs.folder / "points.jsonl").write_text(points)
    for line in lines(commands):
        if not line.startswith("cat >"):
            command = programs.run(*typed(line))
            assert command.wait() == 0, command.err
    recipes = [blocks(PAGE, heading, "python")[0] for heading in ("pandas", "DuckDB", "Polars", "In a program")]
    program = start(programs, "recipes", "\n".join([*recipes, CHECKS]))
    assert program.wait() == 0, program.err
    assert program.out.startswith("0.4 ")
