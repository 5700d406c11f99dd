import asyncio
import datetime as dt
import errno
import os
import shutil

import polars as pl
import pytest

from habitue.collect import log
from habitue.collect.receiver import Busy, Config, Receiver
from habitue.collect.wires import segment
from habitue.core import workspace
from habitue.core.errors import LakeError
from habitue.core.schemas import EVENTS, ITEMS, REFUSED
from habitue.protect import identities, people

NOW = dt.datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)


def track(number, **more):
    message = {"type": "track", "event": "Product Viewed", "messageId": f"m{number}", "anonymousId": "a1"}
    message |= {"timestamp": "2026-05-01T11:59:00Z", "properties": {"product_id": "A", "name": "Mug", "price": 2.5}}
    return message | more


def send(receiver, *messages, received=NOW):
    return receiver.take(segment.batch({"batch": list(messages)}, received=received), "segment", received)


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop")


def session(shop, scenario, **config):
    """Run a scenario with a receiver that was started and is stopped; returns what it returns."""

    async def run():
        receiver = Receiver(shop, Config(**config))
        await receiver.start()
        try:
            return await scenario(receiver)
        finally:
            await receiver.stop()

    return asyncio.run(run())


def test_an_event_is_stored_under_a_key_and_its_raw_id_lies_only_among_the_identities(shop):
    async def scenario(receiver):
        taken = await send(receiver, track(1, userId="customer-0815", anonymousId="cookie-4711"))
        (segment_file,) = log.segments(shop.root / "inbox")
        assert b"customer-0815" not in segment_file.read_bytes() and b"cookie-4711" not in segment_file.read_bytes()
        return taken

    taken = session(shop, scenario)
    assert (taken.new, taken.repeated, taken.refused) == (1, 0, 0)
    (row,) = shop.lake.read(EVENTS).to_dicts()
    assert row | {"user_key": 0} == dict.fromkeys(EVENTS.schema) | {
        "event_id": "m1",
        "line": 0,
        "at": dt.datetime(2026, 5, 1, 11, 59, tzinfo=dt.UTC),
        "received_at": NOW,
        "user_key": 0,
        "kind": "Product Viewed",
        "item_id": "A",
        "title": "Mug",
        "price": 2.5,
        "currency": "EUR",
        "source": "segment",
        "import_id": row["import_id"],
    }
    assert row["import_id"].startswith("inbox-")
    assert row["user_key"] == identities.lookup(shop.identities, "user_id", "customer-0815")
    visitor = identities.lookup(shop.identities, "anonymous_id", "cookie-4711")
    assert people.joins(shop.identities).rows() == [(visitor, row["user_key"])]
    assert shop.lake.read(ITEMS)["title"].to_list() == ["Mug"]
    assert log.segments(shop.root / "inbox") == []


def test_a_repeat_is_stored_once_in_a_request_in_a_group_later_and_after_a_restart(shop):
    async def first(receiver):
        one = await send(receiver, track(1), track(1), track(2))
        together = await asyncio.gather(*(send(receiver, track(3)) for _ in range(4)))
        later = await send(receiver, track(2), track(4))
        return one, together, later

    one, together, later = session(shop, first)
    assert (one.new, one.repeated) == (2, 1)
    assert sorted(taken.new for taken in together) == [0, 0, 0, 1]
    assert (later.new, later.repeated) == (1, 1)

    async def again(receiver):
        return await send(receiver, track(1), track(4), track(5), received=NOW + dt.timedelta(minutes=5))

    restarted = session(shop, again, horizon_days=36_500)
    assert (restarted.new, restarted.repeated) == (1, 2)
    assert sorted(shop.lake.read(EVENTS)["event_id"]) == ["m1", "m2", "m3", "m4", "m5"]


def test_what_came_is_counted_by_its_type_and_a_name_of_the_shops_own_is_other(shop):
    async def scenario(receiver):
        own = [track(number, event=f"Wheel Spun {number}") for number in range(3, 203)]
        await send(receiver, track(1), track(2, event="Order Completed"), track(2), *own)
        await send(
            receiver, track(1), track(2), track(9_001, timestamp="never"), track(9_002, event="x", timestamp="never")
        )
        return receiver.counts

    assert session(shop, scenario) == {
        ("segment", "Product Viewed", "new"): 1,
        ("segment", "Order Completed", "new"): 1,
        ("segment", "other", "new"): 200,
        ("segment", "Product Viewed", "repeated"): 3,
        ("segment", "Product Viewed", "refused"): 1,
        ("segment", "other", "refused"): 1,
    }


async def takes_one_to_three(receiver):
    return await send(receiver, track(1), track(2, timestamp="2026-02-01T00:00:00Z"), track(3))


def test_ids_outlive_a_restart_in_files_and_the_lake_is_not_read_for_them(shop, monkeypatch):
    session(shop, takes_one_to_three)
    monkeypatch.setattr("habitue.collect.compaction.received_since", lambda *_: pytest.fail("the lake was read"))

    async def later(receiver):
        await receiver.compact()  # nothing came: the files stay what they are
        assert len(receiver._seen) == 0
        return await send(receiver, track(3), track(2, timestamp="2026-02-01T00:00:00Z"), track(4))

    for new in (1, 0):
        taken = session(shop, later)
        assert (taken.new, taken.repeated) == (new, 3 - new)


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_ids_are_made_from_the_lake_where_their_files_are_gone_or_torn(shop, damage):
    session(shop, takes_one_to_three)
    (folder,) = shop.state.glob("met-*")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    if damage == "gone":
        shutil.rmtree(folder)
    taken = session(shop, takes_one_to_three, horizon_days=36_500)
    assert (taken.new, taken.repeated) == (0, 3)
    assert os.listdir(folder.parent).count(folder.name) == 1


def test_ids_of_a_turn_that_failed_stay_in_memory_and_a_disk_that_is_full_for_them_keeps_the_segment(shop, monkeypatch):
    async def scenario(receiver):
        await send(receiver, track(1))
        with monkeypatch.context() as patch:
            full = OSError(28, "No space left")
            patch.setattr("habitue.collect.met._write", lambda *_, **__: (_ for _ in ()).throw(full))
            with pytest.raises(LakeError, match="the ids of what was received cannot be kept"):
                await receiver.compact()
        assert len(log.segments(shop.root / "inbox")) == 1 and len(receiver._seen) == 1
        assert (await send(receiver, track(1))).repeated == 1
        await receiver.compact()
        assert log.segments(shop.root / "inbox") == [] and len(receiver._seen) == 0
        return await send(receiver, track(1))

    assert session(shop, scenario).repeated == 1
    assert shop.lake.read(EVENTS)["event_id"].to_list() == ["m1"]


def test_one_bad_event_is_refused_alone_and_kept_with_its_reason_and_without_the_person(shop):
    bad = track(2, userId="customer-0815", properties={"product_id": "A", "price": "call 0171 2345678"})

    async def scenario(receiver):
        return await send(receiver, track(1), bad, 3, track(4))

    taken = session(shop, scenario)
    assert (taken.new, taken.refused) == (2, 2)
    assert sorted(shop.lake.read(EVENTS)["event_id"]) == ["m1", "m4"]
    refused = shop.lake.read(REFUSED).sort("row")
    assert refused["code"].to_list() == ["bad_price", "bad_record"]
    assert refused["sentence"][0] == "The price is not a finite number of fewer than fifteen digits."
    raw = refused["raw"][0]
    assert "customer-0815" not in raw and "2345678" not in raw and "[phone]" in raw
    assert f'"user_key":{identities.lookup(shop.identities, "user_id", "customer-0815")}' in raw


def test_subscribers_hear_new_events_once_with_their_keys_before_the_answer(shop):
    heard = []

    async def scenario(receiver):
        receiver.subscribers.append(lambda events: heard.append([(e["event_id"], e["user_key"]) for e in events]))
        await send(receiver, track(1), track(2))
        assert len(heard) == 1
        await send(receiver, track(1))
        await send(receiver, track(3))

    session(shop, scenario)
    key = identities.lookup(shop.identities, "anonymous_id", "a1")
    assert heard == [[("m1", key), ("m2", key)], [("m3", key)]]


def test_a_subscriber_that_fails_costs_no_event_and_is_logged(shop, caplog):
    def broken(_events):
        raise ZeroDivisionError

    async def scenario(receiver):
        receiver.subscribers.append(broken)
        return await send(receiver, track(1))

    assert session(shop, scenario).new == 1
    assert "a subscriber failed" in caplog.text
    assert shop.lake.read(EVENTS).height == 1


def test_a_full_disk_acknowledges_nothing_and_the_repeat_is_stored(shop, monkeypatch):
    async def scenario(receiver):
        def full(_file):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("habitue.collect.log.os.fsync", full)
            with pytest.raises(LakeError, match="No space left"):
                await send(receiver, track(1))
        assert sum(receiver.counts.values()) == 0
        return await send(receiver, track(1), track(2))

    assert session(shop, scenario).new == 2
    assert sorted(shop.lake.read(EVENTS)["event_id"]) == ["m1", "m2"]


def test_identities_that_another_process_holds_stop_the_event_and_not_the_server(shop, monkeypatch):
    monkeypatch.setattr(identities, "WAIT_S", 0.1)

    async def scenario(receiver):
        with identities.book(shop.identities), pytest.raises(LakeError, match="the identities cannot be used"):
            await send(receiver, track(1))
        return await send(receiver, track(1))

    assert session(shop, scenario).new == 1


def test_requests_that_are_read_while_a_group_begins_share_its_record(shop):
    """What has come is read before a group is closed: a request may be two passes of the loop behind the first."""

    async def later(receiver, number, passes):
        for _ in range(passes):
            await asyncio.sleep(0)
        return await send(receiver, track(number))

    async def scenario(receiver):
        taken = await asyncio.gather(*(later(receiver, number, number % 3) for number in range(9)))
        (segment_file,) = log.segments(shop.root / "inbox")
        return taken, len(list(log.records(segment_file)))

    taken, records = session(shop, scenario)
    assert [one.new for one in taken] == [1] * 9 and records == 1
    assert shop.lake.read(EVENTS).height == 9


def test_more_waiting_than_may_is_refused_until_it_is_stored(shop):
    async def scenario(receiver):
        first = [asyncio.ensure_future(send(receiver, track(n))) for n in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await send(receiver, track(9))
        await asyncio.gather(*first)
        return await send(receiver, track(9))

    assert session(shop, scenario, waiting_events=3).new == 1


def test_a_second_receiver_on_one_workspace_is_refused_in_words(shop):
    from habitue.core import lock

    script = "import sys, time; from pathlib import Path; from habitue.core import lock\n"
    script += "with lock.exclusive(Path(sys.argv[1]), wait_s=1): print('held', flush=True); time.sleep(60)"
    import subprocess
    import sys

    command = [sys.executable, "-c", script, str(shop.root / "inbox" / ".lock")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(LakeError, match="another writer \\(process \\d+\\) is at work"):
            session(shop, None)
    finally:
        other.kill()
        other.communicate()
    assert lock is not None


def test_a_segment_that_is_in_the_lake_already_adds_nothing(shop):
    saved = {}

    async def scenario(receiver):
        await send(receiver, track(1), track(2), 3)
        (path,) = log.segments(shop.root / "inbox")
        saved[path] = path.read_bytes()

    session(shop, scenario)
    for path, content in saved.items():  # as after a crash between the lake's commit and the file's removal
        path.write_bytes(content)

    async def nothing(receiver):
        return None

    session(shop, nothing)
    assert shop.lake.read(EVENTS).height == 2 and shop.lake.read(REFUSED).height == 1
    assert log.segments(shop.root / "inbox") == []


def test_rows_of_somebody_erased_meanwhile_do_not_reach_the_lake(shop):
    async def scenario(receiver):
        await send(receiver, track(1, anonymousId="leaves"), track(2, anonymousId="stays"))
        identities.forget(shop.identities, [identities.lookup(shop.identities, "anonymous_id", "leaves")])
        await send(receiver, track(3, anonymousId="leaves"))  # comes again, as somebody new

    session(shop, scenario)
    assert sorted(shop.lake.read(EVENTS)["event_id"]) == ["m2", "m3"]
    known = identities.aliases(shop.identities)["user_key"]
    assert shop.lake.read(EVENTS)["user_key"].is_in(known.implode()).all()


def test_what_is_refused_after_a_restart_is_kept_beside_what_was_refused_before(shop):
    async def scenario(receiver):
        return await send(receiver, 3)

    for _ in range(3):
        session(shop, scenario)
    assert shop.lake.read(REFUSED).height == 3


def test_two_turns_of_compaction_at_once_store_everything_once(shop):
    async def scenario(receiver):
        for number in range(3):
            await send(receiver, track(number))
            await asyncio.gather(receiver.compact(), receiver.compact())
        cancelled = asyncio.ensure_future(receiver.compact())
        await send(receiver, track(9))
        cancelled.cancel()

    session(shop, scenario)
    assert sorted(shop.lake.read(EVENTS)["event_id"]) == ["m0", "m1", "m2", "m9"]
    assert log.segments(shop.root / "inbox") == []


def test_people_met_by_an_import_meanwhile_keep_their_keys(shop):
    async def scenario(receiver):
        await send(receiver, track(1))
        moment = pl.Series([NOW])
        keys = identities.keys_for(shop.identities, "user_id", pl.Series(["u9"]), linked_at=moment, source="file")
        await send(receiver, track(2, userId="u9"))
        return keys[0]

    key = session(shop, scenario)
    assert shop.lake.read(EVENTS).filter(event_id="m2")["user_key"].to_list() == [key]


def test_identify_joins_the_visitor_and_the_user_and_is_no_event(shop):
    hello = {"type": "identify", "messageId": "i1", "userId": "u1", "anonymousId": "a1", "timestamp": str(NOW)}

    async def scenario(receiver):
        return await send(receiver, track(1), hello)

    taken = session(shop, scenario)
    assert (taken.new, taken.refused) == (1, 0)
    (pair,) = people.joins(shop.identities).rows()
    assert pair[1] == identities.lookup(shop.identities, "user_id", "u1")
    assert pair[0] == shop.lake.read(EVENTS)["user_key"][0]


def test_what_waits_in_the_inbox_is_in_the_lake_when_start_returns(shop):
    async def killed():
        receiver = Receiver(shop)
        await receiver.start()
        await send(receiver, track(1))
        receiver._held.close()  # as the kernel does when the process is killed
        for task in receiver._tasks:
            task.cancel()

    asyncio.run(killed())
    assert shop.lake.read(EVENTS).is_empty() and len(log.segments(shop.root / "inbox")) == 1

    async def look(receiver):
        return shop.lake.read(EVENTS)["event_id"].to_list()

    assert session(shop, look) == ["m1"]
    assert os.listdir(shop.root / "inbox") == [".lock"]


def test_a_poisoned_record_is_put_aside_and_read_again_after_a_fix(shop, monkeypatch, caplog):
    from habitue.collect import compaction, entry

    async def scenario(receiver):
        await send(receiver, track(1))
        await send(receiver, track(2))
        await send(receiver, track(3))

    real = entry.tables

    def broken(payloads):
        held = list(payloads)
        if any(b"m2" in payload for payload in held):
            raise pl.exceptions.ComputeError("a mistake of ours")
        return real(held)

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "tables", broken)
        session(shop, scenario)
    assert sorted(shop.lake.read(EVENTS)["event_id"]) == ["m1", "m3"]
    assert shop.lake.read(REFUSED).select("source", "code").rows() == [("inbox", "unreadable")]
    assert "1 records of" in caplog.text
    assert [path.suffix for path in (shop.root / "inbox").iterdir() if path.name != ".lock"] == [".aside"]

    async def nothing(receiver):
        return None

    session(shop, nothing)  # the fixed version starts
    assert sorted(shop.lake.read(EVENTS)["event_id"]) == ["m1", "m2", "m3"]
    assert os.listdir(shop.root / "inbox") == [".lock"]


def test_a_failed_turn_of_compaction_is_logged_and_the_next_one_goes_on(shop, monkeypatch, caplog):
    from habitue.collect import compaction

    real, turns = compaction.into_lake, []

    def sometimes(*args):
        turns.append(len(turns))
        if turns[-1] == 1:  # the first after the start
            raise ZeroDivisionError
        return real(*args)

    monkeypatch.setattr(compaction, "into_lake", sometimes)

    async def scenario(receiver):
        await send(receiver, track(1))
        while len(turns) < 3:
            await asyncio.sleep(0.02)

    session(shop, scenario, compact_s=0.05)
    assert "the inbox waits" in caplog.text and shop.lake.read(EVENTS).height == 1


def test_small_files_of_the_lake_are_merged_now_and_then(shop, monkeypatch):
    monkeypatch.setattr("habitue.collect.compaction.MERGED", 5)

    async def scenario(receiver):
        for number in range(11):
            await send(receiver, track(number))
            await receiver.compact()

    session(shop, scenario)
    assert shop.lake.read(EVENTS).height == 11
    assert len(shop.lake.files(EVENTS)) == 2
