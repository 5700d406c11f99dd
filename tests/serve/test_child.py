"""A child that is asked, dies, is started again and asked again; scripts stand for the real one."""

import asyncio
import os
import sys
import time

import pytest

from habitue.core.errors import HabitueError, LakeError
from habitue.serve import child
from habitue.serve.child import Child

ANSWERS = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["number"]:
        print(json.dumps({"number": asked["number"], "result": {"did": asked["do"], **asked["with"]}}), flush=True)
"""
DIES = """
import pathlib, sys
lives = pathlib.Path(sys.argv[1])
lives.write_text(lives.read_text() + "." if lives.exists() else ".")
if len(lives.read_text()) <= int(sys.argv[2]):
    sys.stdin.readline()
    sys.exit(7)
"""
TIRES = """
import json, os, sys
for line in sys.stdin:
    told = {"pid": os.getpid(), "nice": os.getpriority(os.PRIO_PROCESS, 0)}
    print(json.dumps({"number": json.loads(line)["number"], "result": told}), flush=True)
    sys.exit(75)
"""
REFUSES = """
import json, sys
for line in sys.stdin:
    error = {"where": "here", "found": "it is wrong", "consequence": "Nothing", "remedy": "Mend it"}
    print(json.dumps({"number": json.loads(line)["number"], "error": error}), flush=True)
"""


def asked(script, scenario, *arguments):
    async def run():
        one = Child([sys.executable, "-c", script, *map(str, arguments)])
        await one.start()
        try:
            return await scenario(one)
        finally:
            await one.stop()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(child, "SOON_S", 0.01)


def test_everything_that_is_asked_is_answered():
    async def scenario(one):
        return await asyncio.gather(*(one.ask("store", n=n) for n in range(3)))

    assert asked(ANSWERS, scenario) == [{"did": "store", "n": n} for n in range(3)]


def test_what_it_refuses_is_raised_in_its_words():
    async def scenario(one):
        await one.ask("read")

    with pytest.raises(HabitueError, match=r"here: it is wrong. Nothing. Mend it\."):
        asked(REFUSES, scenario)


def test_a_child_that_dies_is_started_again_and_asked_again(tmp_path, caplog):
    async def scenario(one):
        found = await one.ask("store", n=1)
        return found, one.deaths

    found, deaths = asked(DIES + ANSWERS, scenario, tmp_path / "lives", 2)
    assert found == {"did": "store", "n": 1} and deaths == 2
    assert caplog.text.count("the process for work in the background ended (7); it is started again") == 2


def test_what_it_dies_of_three_times_is_given_up_in_words(tmp_path):
    async def scenario(one):
        with pytest.raises(LakeError, match="the process that does it died 3 times"):
            await one.ask("store")
        return one.deaths

    assert asked(DIES + ANSWERS, scenario, tmp_path / "lives", 99) == 3


def test_one_that_asks_to_be_started_afresh_has_not_died_and_no_answer_is_lost(caplog, monkeypatch):
    monkeypatch.setattr(child, "SOON_S", 1e9)  # a death would be waited after for ever

    async def scenario(one):
        answers = await asyncio.gather(*(one.ask("store", n=n) for n in range(4)))
        return [told["pid"] for told in answers], one.deaths

    pids, deaths = asked(TIRES, scenario)
    assert len(set(pids)) == 4 and deaths == 0
    assert "ended" not in caplog.text


def test_one_started_while_the_server_answers_is_at_low_priority_from_its_first_moment():
    own = os.getpriority(os.PRIO_PROCESS, 0)

    async def scenario(one):
        first = (await one.ask("read"))["nice"]
        one.calm()
        return [first, *[(await one.ask("read"))["nice"] for _ in range(2)]]

    found = asked(
        TIRES.replace(
            "for line in sys.stdin:", 'for line in sys.stdin:\n    if not json.loads(line)["number"]: continue'
        ),
        scenario,
    )
    assert found[0] == own and found[-1] == min(own + child.NICE, 19)


def test_whoever_waits_when_the_server_stops_is_told():
    async def scenario(one):
        waiting = asyncio.ensure_future(one.ask("store"))
        await asyncio.sleep(0.05)
        await one.stop()
        with pytest.raises(LakeError, match="the server stops"):
            await waiting

    asked("import sys; sys.stdin.read()", scenario)


def test_the_end_of_its_input_ends_it():
    async def scenario(one):
        await one.ask("store")
        pid, began = one.pid, time.monotonic()
        await one.stop()
        return pid, time.monotonic() - began

    pid, took = asked(ANSWERS, scenario)
    assert pid is not None and took < child.END_S / 2


def test_a_command_that_does_not_exist_is_said_and_tried_again(caplog):
    async def run():
        one = Child(["/nowhere/python"])
        await one.start()
        with pytest.raises(LakeError, match="died 3 times"):
            await one.ask("store")
        await one.stop()

    asyncio.run(run())
    assert "cannot be started" in caplog.text


def test_nonsense_on_its_output_is_the_end_of_it(tmp_path, caplog):
    async def scenario(one):
        return await one.ask("store")

    lives = "import pathlib, sys\nlives = pathlib.Path(sys.argv[1])\n"
    nonsense = lives + "if not lives.exists():\n    lives.touch(); print('what?', flush=True); sys.stdin.read()\n"
    assert asked(nonsense + ANSWERS, scenario, tmp_path / "lives") == {"did": "store"}
    assert "said what cannot be read" in caplog.text


def test_a_calm_child_stays_calm_when_it_is_started_again(tmp_path):
    told = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["number"]:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        print(json.dumps({"number": asked["number"], "result": {"nice": nice}}), flush=True)
"""

    async def scenario(one):
        one.calm()
        return await one.ask("store")

    assert asked(DIES + told, scenario, tmp_path / "lives", 1) == {
        "nice": min(os.getpriority(os.PRIO_PROCESS, 0) + child.NICE, 19)
    }
