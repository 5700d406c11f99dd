"""habitue check as it is typed."""

import json


def test_check_repair_undo_and_limits(folder, run, orders):
    assert run("init", "shop", cwd=folder).returncode == 0
    lines = (folder / "orders.csv").read_text().splitlines(keepends=True)
    (folder / "orders.csv").write_text("".join([*lines, lines[1], lines[1]]))
    assert run("import", "orders.csv", "--mapping", "orders.toml", "-w", "shop", cwd=folder).returncode == 0
    done = run("check", "-w", "shop", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 rows repeat an earlier row exactly" in " ".join(done.stdout.split())
    assert "drop_exact_repeats" in done.stdout
    assert "reports/quality.html" in done.stdout
    repaired = run("check", "-w", "shop", "--repair", "drop_exact_repeats", cwd=folder)
    assert repaired.returncode == 0, repaired.stderr
    assert "To take it back: habitue check --undo drop_exact_repeats" in repaired.stdout
    told = json.loads(run("check", "-w", "shop", "--json", cwd=folder).stdout)
    assert [one["repair"] for one in told["in_force"]] == ["drop_exact_repeats"]
    assert told["rows"]["events"] == orders.height
    assert told["checks"] == 2
    undone = run("check", "-w", "shop", "--undo", "drop_exact_repeats", "--json", cwd=folder)
    assert json.loads(undone.stdout) == {"undone": "drop_exact_repeats", "rows": 2}
    again = run("check", "-w", "shop", "--undo", "drop_exact_repeats", cwd=folder)
    assert again.returncode == 2
    assert "repair 'drop_exact_repeats': it is not in force." in again.stderr
    plan = folder / "shop/habitue.toml"
    plan.write_text(plan.read_text() + "\n[check.most]\nexact_repeat = 0\n")
    bad = run("check", "-w", "shop", "--json", cwd=folder)
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["broken"]
    assert "habitue: check: 'exact_repeat' is 0." in bad.stderr
    assert "Traceback" not in bad.stderr


def test_questions_that_do_not_go_together(folder, run):
    assert run("init", "shop", cwd=folder).returncode == 0
    both = run("check", "-w", "shop", "--repair", "a", "--undo", "b", cwd=folder)
    assert (both.returncode, "--repair came with another question" in both.stderr) == (2, True)
    half = run("check", "-w", "shop", "--before", "2024-01-01..2024-02-01", cwd=folder)
    assert (half.returncode, "one of the two periods of drift is missing" in half.stderr) == (2, True)
