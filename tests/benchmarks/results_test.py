"""The file of results: a benchmark writes its own section and no other."""

from pathlib import Path

from benchmarks import results


def test_a_section_replaces_its_older_self_alone(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    results.write("Speed", "one\n\n### detail\n", path)
    results.write("Networks", results.table(["a", "b"], [["1", "2"]]), path)
    before = path.read_text()
    assert before.startswith("# ") and before.index("## Networks") < before.index("## Speed")
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |" in before
    results.write("Speed", "two", path)
    assert path.read_text() == before.replace("one\n\n### detail", "two")
    assert list(tmp_path.iterdir()) == [path]
