import pytest

from habitue.core import errors


def test_a_message_says_where_what_consequence_and_remedy_as_sentences():
    error = errors.HabitueError("here", found="a thing ", consequence="It breaks!", remedy="Mend it?")
    assert str(error) == "here: a thing. It breaks! Mend it?"
    assert (error.where, error.found, error.consequence, error.remedy) == ("here", "a thing ", "It breaks!", "Mend it?")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.HabitueError, 1),
        (errors.UsageError, 2),
        (errors.SettingsError, 2),
        (errors.PluginError, 2),
        (errors.SchemaError, 1),
        (errors.InputError, 1),
        (errors.LakeError, 1),
        (errors.LeakageError, 1),
        (errors.ModelError, 1),
        (errors.MissingExtraError, 1),
    ],
)
def test_wrong_use_exits_with_2_and_a_failed_run_with_1(kind, code):
    assert issubclass(kind, errors.HabitueError)
    assert kind("w", found="f", consequence="c", remedy="r").exit_code == code


def test_did_you_mean_names_the_closest_word():
    assert errors.did_you_mean("batchsize", ["batch_size", "epochs"]) == "Did you mean 'batch_size'?"


def test_did_you_mean_lists_what_there_is_when_nothing_is_close():
    assert errors.did_you_mean("xyz", ["b", "a"]) == "Known: a, b."


def test_did_you_mean_of_nothing():
    assert errors.did_you_mean("xyz", []) == "None is known here."


def test_what_moves_a_cursor_or_is_half_a_letter_is_written_as_what_it_is():
    """A column of somebody's file may be called so, and its name stands in the message."""
    error = errors.HabitueError("a.csv", found="\x1b[2J\n\u202e\ud83d\x9b2J", consequence="The é stays", remedy="None")
    assert str(error) == "a.csv: \\x1b[2J\\n\\u202e\\ud83d\\x9b2J. The é stays. None."
    assert str(error).encode()
