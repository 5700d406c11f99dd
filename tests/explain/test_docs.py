"""docs/explain.md answers what it shows."""

import doctest
import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/explain.md").read_text(encoding="utf-8")


def test_its_python_answers_what_it_shows(capsys):
    (shown,) = re.findall(r"^```pycon\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(shown, {}, "explain.md", "docs/explain.md", 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner().run(test).failed == 0, capsys.readouterr().out
