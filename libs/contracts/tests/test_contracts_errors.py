import pytest

from gen2act_contracts import errors


def all_errors() -> list[type[errors.Gen2ActError]]:
    return sorted(errors.by_code().values(), key=lambda kind: kind.code)


def test_every_class_of_the_tree_has_its_own_code() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type)
        and issubclass(value, errors.Gen2ActError)
        and value is not errors.Gen2ActError
    ]

    assert len(classes) == len({kind.code for kind in classes})
    assert {kind.code: kind for kind in classes} == errors.by_code()


def test_the_drawn_tree_names_every_class_and_code() -> None:
    drawing = errors.__doc__ or ""

    for kind in all_errors():
        line = next(line for line in drawing.splitlines() if f" {kind.__name__} " in line)
        assert kind.code in line.split()


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.code)
def test_an_error_is_made_again_from_its_code(kind: type[errors.Gen2ActError]) -> None:
    made = errors.from_code(kind.code, "told", {"robot_id": "r1"})

    assert type(made) is kind
    assert str(made) == made.message == "told"
    assert made.metadata == {"robot_id": "r1"}


def test_an_unknown_code_becomes_internal_and_is_kept() -> None:
    made = errors.from_code("FROM_THE_FUTURE", "told", {"message": "a key that is a parameter"})

    assert type(made) is errors.Internal
    assert made.metadata["code"] == "FROM_THE_FUTURE"
    assert made.metadata["message"] == "a key that is a parameter"


def test_only_failures_that_may_pass_are_retryable() -> None:
    retryable = {kind.__name__ for kind in all_errors() if kind.retryable}

    assert retryable == {
        "Unavailable",
        "StoreUnavailable",
        "PeerUnavailable",
        "PlannerUnavailable",
        "Overloaded",
        "Draining",
        "DeadlineExceeded",
    }


def test_a_service_s_own_subclass_does_not_take_over_a_code() -> None:
    class Local(errors.InvalidImage):
        pass

    assert Local("x").code == "INVALID_IMAGE"
    assert errors.by_code()["INVALID_IMAGE"] is errors.InvalidImage
