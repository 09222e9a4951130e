from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.spec import build, canonical, nearest, parse_spec, with_option


@dataclass(frozen=True)
class Everything:
    count: int = 1
    rate: float = 0.5
    name: str = "plain"
    fast: bool = False
    kind: Literal["low", "high"] = "low"
    limit: int | None = None
    blocks: tuple[str, ...] = ()
    sizes: tuple[int, ...] | None = None
    hidden: int = field(default=7, init=False)


@dataclass(frozen=True)
class Strict:
    needed: int
    also: tuple[float, ...]
    free: str = "x"


@dataclass(frozen=True)
class Nothing:
    pass


def read(text, cls=Everything):
    name, options = parse_spec(text)
    return build(cls, options, name=name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it", {}),
        ("it:", {}),
        (" it:count=3 ", {"count": 3}),
        ("it:count=-3,rate=1e-3", {"count": -3, "rate": 1e-3}),
        ("it:fast=yes", {"fast": True}),
        ("it:fast=TRUE,kind=high", {"fast": True, "kind": "high"}),
        ("it:fast=0", {}),
        ("it:limit=4", {"limit": 4}),
        ("it:limit=none", {}),
        ("it:blocks=layer1.0,layer2.1,count=2", {"blocks": ("layer1.0", "layer2.1"), "count": 2}),
        ("it:blocks=a, b ,c", {"blocks": ("a", "b", "c")}),
        ("it:blocks=", {}),
        ("it:sizes=1,2,3,name=left=right", {"sizes": (1, 2, 3), "name": "left=right"}),
        ("it:sizes=none", {}),
        ("it:name=", {"name": ""}),
        ("it: count = 2", {"count": 2}),
    ],
)
def test_options_are_read_by_their_type(text, expected):
    assert read(text) == Everything(**expected)


def test_an_option_is_added_or_takes_the_place_of_its_value():
    assert with_option("fine-tune", "compact", "yes") == "fine-tune:compact=yes"
    assert with_option("dst:a=1,b=x,y", "c", "2") == "dst:a=1,b=x,y,c=2"
    assert with_option("dst:compact=no,a=1", "compact", "yes") == "dst:compact=yes,a=1"


def test_a_dash_in_a_key_is_an_underscore():
    assert parse_spec("a:max-steps=3") == ("a", {"max_steps": "3"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no name"),
        (":count=1", "has no name"),
        ("it:3", "'3' is not of the form key=value"),
        ("it:=3", "'=3' has no key"),
        ("it:count=1,count=2", "'count' is given twice"),
        ("it:max-a=1,max_a=2", "'max_a' is given twice"),
    ],
)
def test_malformed_specs(text, message):
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("it:cuont=1", "it has no option 'cuont' (did you mean 'count'?)"),
        ("it:zzz=1", "it has no option 'zzz'. Options of it: count (int), rate (float)"),
        ("it:hidden=1", "it has no option 'hidden'"),
        ("it:count=1.5", "it: count='1.5' is not a whole number."),
        ("it:count=1,2", "count='1,2' is not a whole number"),
        ("it:rate=fast", "rate='fast' is not a number"),
        ("it:fast=maybe", "fast='maybe' is not a yes or a no"),
        ("it:kind=middle", "kind='middle' is not one of low, high."),
        ("it:kind=hihg", "kind='hihg' is not one of low, high (did you mean 'high'?)."),
        ("it:limit=x", "limit='x' is not a whole number"),
        ("it:sizes=1,b", "sizes='1,b' holds 'b', which is not a whole number"),
        ("it:zzz=1", "kind (low|high), limit (int), blocks (str,...), sizes (int,...)."),
    ],
)
def test_errors_name_what_is_possible(text, message):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert message in str(caught.value)


def test_what_has_no_default_is_needed():
    with pytest.raises(UsageError, match=r"it needs needed, also. Options of it"):
        read("it", Strict)
    assert read("it:needed=1,also=1,2.5", Strict) == Strict(1, (1.0, 2.5))


def test_no_options():
    with pytest.raises(UsageError, match=r"it has no option 'a'. it takes no options."):
        read("it:a=1", Nothing)


def test_a_field_that_cannot_be_written_is_a_programming_error():
    @dataclass(frozen=True)
    class Odd:
        mapping: dict = field(default_factory=dict)

    with pytest.raises(TypeError, match="cannot be written in a spec"):
        build(Odd, {"mapping": "x"}, name="odd")


def test_the_canonical_form_leaves_defaults_out():
    assert canonical("it", Everything()) == "it"
    assert canonical("it", Everything(blocks=("a", "b"), fast=True)) == "it:fast=yes,blocks=a,b"
    assert canonical("it", Strict(1, ())) == "it:needed=1,also="


WORDS = st.text("abz019._/-", min_size=1, max_size=6)
NUMBERS = st.integers(-10, 10**9)


@given(
    st.builds(
        Everything,
        count=NUMBERS,
        rate=st.floats(allow_nan=False),
        name=WORDS,
        fast=st.booleans(),
        kind=st.sampled_from(["low", "high"]),
        limit=st.none() | NUMBERS,
        blocks=st.lists(WORDS, max_size=3).map(tuple),
        sizes=st.none() | st.lists(NUMBERS, max_size=3).map(tuple),
    )
)
def test_the_canonical_form_reads_back(instance):
    assert read(canonical("it", instance)) == instance


@given(st.builds(Strict, needed=NUMBERS, also=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple), free=WORDS))
def test_what_is_needed_reads_back(instance):
    assert read(canonical("it", instance), Strict) == instance


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        name, options = parse_spec(text)
    except UsageError:
        return
    assert name
    assert all(options)


def test_nearest():
    assert nearest("layer-prun", ["layer-prune", "shrink"]) == " (did you mean 'layer-prune'?)"
    assert nearest("zzz", ["layer-prune"]) == ""
