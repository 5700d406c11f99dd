"""Rules about products: what they name, when they hold, what they expect, and that training listens to them."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from habitue.core.errors import SettingsError
from habitue.core.runtime import Runtime
from habitue.core.schemas import REFUND
from habitue.model import behaviour, knowledge
from habitue.model.knowledge import Knowledge, Products, Rule
from habitue.model.past import most_bought
from habitue.model.teacher import Told

CATALOGUE = pl.DataFrame(
    {
        "item_id": list("abcde"),
        "title": ["Laser printer", "Ink for laser printers", "Ink, black", None, "Paper"],
        "category": ["Office > Printers", "Office > Ink", "Office > Ink > Black", None, "Officer"],
        "brand": ["Acme", "Acme", None, "Bolt", "Bolt"],
    }
)


@pytest.mark.parametrize(
    ("products", "named"),
    [
        (Products(items=("a", "z")), "a"),
        (Products(category="Office"), "abc"),  # and not Officer
        (Products(category="Office > Ink"), "bc"),
        (Products(brand="Bolt"), "de"),
        (Products(words="INK"), "bc"),
        (Products(words="printer laser"), "ab"),
        (Products(items=("e",), brand="Acme"), "abe"),
        (Products(words="tea"), ""),
    ],
)
def test_what_a_side_names(products, named):
    rules = knowledge.about([Rule(products, Products(items=("e",)))], CATALOGUE)
    assert "".join(np.array(list("abcde"))[rules.left.indices]) == named
    assert rules.right.indices.tolist() == [4] and rules.share.tolist() == [pytest.approx(0.2)]


def test_no_rule_is_no_knowledge():
    assert knowledge.about([], CATALOGUE) is None
    knowledge.check(None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bought": Products()}, "a rule whose 'bought' names no product.*Name items, a category"),
        ({"wants": Products(words="  ")}, "a rule whose 'wants' names no product"),
        ({"share": 0.0}, "a share of 0.*more than 0 and at most 0.8"),
        ({"share": 0.9}, "a share of 0.9"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(given, message):
    fine = {"bought": Products(brand="Acme"), "wants": Products(brand="Bolt")}
    with pytest.raises(SettingsError, match=message):
        Rule(**fine | given)


def test_a_side_that_names_no_product_of_the_shop_is_refused():
    acme, tea = Products(brand="Acme"), Products(words="tea")
    knowledge.check(knowledge.about([Rule(acme, acme)], CATALOGUE))
    with pytest.raises(SettingsError, match="rule 2.*'wants' names none of the 5 products"):
        knowledge.check(knowledge.about([Rule(acme, acme), Rule(acme, tea)], CATALOGUE))


def rules_of(*sides, items=5):
    """Return Knowledge of (left places, right places, share)."""
    left, right = np.zeros((len(sides), items), dtype=np.float32), np.zeros((len(sides), items), dtype=np.float32)
    for r, (of, to, _) in enumerate(sides):
        left[r, of] = right[r, to] = 1
    return Knowledge(sp.csr_matrix(left), sp.csr_matrix(right), np.array([s[2] for s in sides], dtype=np.float32))


def expected(past, target, rules, window=9):
    told = knowledge.told(past.histories, np.array(target), rules, items=len(past.items), window=window)
    found = np.zeros((len(target), len(past.items)))
    np.add.at(found, (np.arange(len(target))[:, None], told.item), told.share)
    return found


def test_a_rule_holds_from_the_purchase_of_its_left_side_on(make_past):
    past = make_past(
        (1, 40, "e", REFUND), (1, 30, "a"), (1, 20, "e"), (1, 10, "b"), (2, 9, "c"), (2, 5, "c"), items="abcde"
    )
    rules = rules_of(([0], [1, 2], 0.3), ([4], [3], 0.5))
    found = expected(past, [0, 1, 2, 3, 5], rules)
    ink = np.array([0, 2, 3, 0, 0]) / 5 * 0.3  # b was sold once, c twice, and one more for each
    np.testing.assert_allclose(found[[0, 1, 4]], 0)  # nothing before; a refund is no purchase; another customer
    np.testing.assert_allclose(found[2], ink, rtol=1e-6)
    np.testing.assert_allclose(found[3], ink + np.array([0, 0, 0, 0.5, 0]), rtol=1e-6)
    np.testing.assert_allclose(expected(past, [3], rules, window=1)[0], [0, 0, 0, 0.5, 0], rtol=1e-6)


def test_rules_never_take_the_whole_target_and_a_long_side_keeps_its_share(make_past, monkeypatch):
    past = make_past((1, 30, "a"), (1, 20, "b"), items="abcde")
    many = rules_of(*[([0], [k], 0.3) for k in (1, 2, 3, 4)])
    assert expected(past, [1], many).sum() == pytest.approx(knowledge.MOST)
    monkeypatch.setattr(knowledge, "TOLD", 2)
    assert expected(past, [1], rules_of(([0], [1, 2, 3, 4], 0.4))).sum() == pytest.approx(0.4)


def test_calls_of_lessons_add_up_to_one(make_past, monkeypatch):
    past = make_past(*((u, d, "ab") for u in range(3) for d in (3, 2, 1)), items="abcde")
    rules = rules_of(([0], [3, 4], 0.3))
    whole = expected(past, list(range(9)), rules)
    monkeypatch.setattr(knowledge, "LESSONS_A_CALL", 2)
    np.testing.assert_array_equal(expected(past, list(range(9)), rules), whole)
    assert whole.any()


def test_beside_a_teacher_the_rules_come_first():
    teacher = Told(np.array([[0, 1]], dtype=np.int32), np.array([[0.2, 0.1]], dtype=np.float32))
    rules = Told(np.array([[2]], dtype=np.int32), np.array([[0.5]], dtype=np.float32))
    both = knowledge.beside(teacher, rules)
    assert both.item.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(both.share, [[0.1, 0.05, 0.5]])
    assert knowledge.beside(None, rules) is rules


def test_a_smaller_catalogue_keeps_its_part_of_the_rules(make_past):
    past = make_past((1, 30, "ac"), (1, 20, "c"), items="abcde")
    few = most_bought(dataclasses.replace(past, knowledge=rules_of(([0, 1], [2, 4], 0.3))), 2)
    assert few.items == ("a", "c")
    assert few.knowledge.left.toarray().tolist() == [[1, 0]] and few.knowledge.right.toarray().tolist() == [[0, 1]]


def test_training_listens(make_past):
    """Everything is bought by chance; a rule says that e follows a, so those who had a, and they alone, are told e."""
    rng = np.random.default_rng(4)
    sets = [(u, d, str(rng.choice(list("abcd"), p=[0.1, 0.3, 0.3, 0.3]))) for u in range(120) for d in (40, 30, 20, 10)]
    sets += [(500, 5, "e"), (501, 5, "a"), (502, 5, "b")]
    past = make_past(*sets, items="abcde")
    config = behaviour.Config(width=16, passes=60, learning_rate=5e-3, content=0)
    told = dataclasses.replace(past, knowledge=rules_of(([0], [4], 0.5)))
    before, after = (behaviour.score(behaviour.fit(p, config, runtime=Runtime()), p) for p in (past, told))
    keys = past.histories.user_keys
    e_of_a, e_of_b = (after[keys == key, 4] - after[keys == key, :4].mean() for key in (501, 502))
    plain = before[keys == 501, 4] - before[keys == 501, :4].mean()
    assert e_of_a > plain + 2 and e_of_a > e_of_b + 1.5
