"""The table of published results: what is shipped, what a file may hold, how rows are chosen."""

import re

import pytest
from helpers.published import write_table

from sparsify.errors import InputError, UsageError
from sparsify.published.table import COLUMNS, PERCENT, lower_is_better, read_table, select, shipped

SHIPPED = shipped()


@pytest.mark.parametrize("result", SHIPPED, ids=lambda one: f"{one.method}-{one.architecture}-{one.sparsity}")
def test_a_shipped_row_says_where_it_is_from_and_is_plausible(result):
    assert re.search(r"\barXiv:\d{4}\.\d{5}\b", result.source)
    assert re.match(r"[A-Z][\w-]+ (et al\.|and [A-Z]\w+), \S", result.paper)
    assert 2015 <= result.year <= 2026
    assert result.metric in (*PERCENT, "perplexity")
    if result.dense_score is not None:  # nothing published gains much by pruning
        gain = -result.change if lower_is_better(result.metric) else result.change
        assert gain < 2


def test_the_same_dense_network_of_a_paper_has_one_score():
    dense = {}
    for one in SHIPPED:
        if one.dense_score is not None:
            dense.setdefault((one.paper, one.architecture, one.data, one.metric), set()).add(one.dense_score)
    assert [key for key, scores in dense.items() if len(scores) > 1] == []


def test_the_sparsest_network_of_a_method_is_worse_than_the_densest():
    """Cells that were swapped would show; the variants of L1 filters prune different layers."""
    lines = {}
    for one in SHIPPED:
        if one.method != "L1 filters":
            lines.setdefault((one.method, one.paper, one.architecture, one.data), []).append(one)
    ends = [
        (min(line, key=lambda one: one.sparsity), max(line, key=lambda one: one.sparsity)) for line in lines.values()
    ]
    assert [(first, last) for first, last in ends if first is not last and first.score <= last.score] == []


@pytest.mark.parametrize(
    ("architecture", "method", "sparsity", "score", "dense"),
    [
        ("ResNet-50", "RigL ERK", 0.9, 73.0, 76.8),
        ("ResNet-50", "static", 0.95, 59.5, 76.8),
        ("ResNet-56", "L1 filters", 0.137, 93.06, 93.04),
        ("LLaMA-2-7B", "Wanda 2:4", 0.5, 11.02, 5.12),
        ("VGG-19", "GraSP", 0.98, 92.19, 94.23),
    ],
)
def test_what_papers_say_is_there(architecture, method, sparsity, score, dense):
    found = [one for one in SHIPPED if (one.architecture, one.method, one.sparsity) == (architecture, method, sparsity)]
    assert (score, dense) in [(one.score, one.dense_score) for one in found]


def test_what_is_not_known_stays_empty(tmp_path):
    (one,) = read_table(write_table(tmp_path / "t.csv", {"dense_score": ""}))
    assert (one.macs_removed, one.dense_score, one.change) == (None, None, None)


def test_columns_may_stand_in_any_order_and_spreadsheets_begin_with_a_mark(tmp_path):
    path = write_table(tmp_path / "t.csv", {}, columns=COLUMNS[::-1])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (one,) = read_table(path)
    assert (one.method, one.sparsity, one.score, one.change) == ("Sieve", 0.9, 74.5, -2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": " "}, "line 3, column source: it is empty"),
        ({"paper": "a\x1b[2Jb"}, "line 3, column paper: it holds characters that cannot be printed"),
        ({"year": "21"}, "line 3, column year: '21' is no year"),
        ({"sparsity": "90"}, "line 3, column sparsity: 90 is not between 0 and 1; 90% is written 0.9"),
        ({"sparsity": "90%"}, "line 3, column sparsity: '90%' is no plain number such as 0.95"),
        ({"macs_removed": "nan"}, "line 3, column macs_removed: 'nan' is no plain number"),
        ({"sparsity": ""}, "line 3: one of sparsity and macs_removed must say how much is gone"),
        ({"score": ""}, "line 3, column score: it is empty"),
        ({"score": "745"}, "line 3, column score: 745 is not between 0 and 100; accuracy is in percent"),
        ({"score": "0.745", "dense_score": "0.765"}, "0.765% is no accuracy of a dense network: write percent"),
        ({"metric": "perplexity", "score": "0.9"}, "column score: 0.9 is less than 1, which no perplexity is"),
        ({"metric": "WER"}, "line 3, column metric: 'WER' is not one of accuracy, AP, BLEU, F1, perplexity. "
                            "Another score says which way is better: WER (higher), or (lower)"),
        ({"method": "Other"}, "line 3 repeats line 2"),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_named_with_its_line_and_column(tmp_path, change, message):
    path = write_table(tmp_path / "t.csv", {"method": "Other"}, change)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns of published results are method,paper,year"),
        (",".join(COLUMNS[:-1]) + "\n", "not method,paper,year"),
        (";".join(COLUMNS) + "\n", "with commas between them"),
        (",".join(COLUMNS) + "\nA, B\n", "line 2: 2 cells where there are 11 columns; text with commas needs quotes"),
        (",".join(COLUMNS) + '\n"A\n', "cannot be read as a table"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_table(path)


def test_a_missing_and_a_binary_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as a table"):
        read_table(tmp_path / "t.csv")


def test_another_score_says_which_way_is_better(tmp_path):
    rows = [{"metric": "word error rate (lower)", "score": "112"}, {"metric": "mIoU (higher)"}]
    assert [lower_is_better(one.metric) for one in read_table(write_table(tmp_path / "t.csv", *rows))] == [True, False]
    assert lower_is_better("perplexity")
    assert not lower_is_better("accuracy")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("ResNet50", {"ResNet-50"}),
        ("resnet", {"ResNet-50", "ResNet-56", "resnet_110"}),
        ("llama-7b", {"LLaMA-7B"}),
        ("LLaMA", {"LLaMA-7B", "LLaMA-2-7B"}),
    ],
)
def test_names_are_matched_from_their_beginning(tmp_path, word, found):
    names = ("ResNet-50", "ResNet-56", "resnet_110", "ResNeXt-50", "LLaMA-7B", "LLaMA-2-7B")
    results = read_table(write_table(tmp_path / "t.csv", *({"architecture": name} for name in names)))
    assert {one.architecture for one in select(results, [word])} == found


def test_ten_classes_are_not_a_hundred(tmp_path):
    results = read_table(write_table(tmp_path / "t.csv", {"data": "CIFAR-10"}, {"data": "CIFAR-100"}))
    assert [one.data for one in select(results, data=["cifar10"])] == ["CIFAR-10"]
    assert len(select(results, data=["cifar10", "cifar100"])) == len(select(results)) == 2


def test_a_name_that_is_nowhere_is_refused_with_what_there_is(tmp_path):
    rows = [{}, {"architecture": "ResNet-56", "data": "CIFAR-10"}]
    results = read_table(write_table(tmp_path / "t.csv", *rows))
    with pytest.raises(UsageError, match=r"--method Sive: no result has that \(did you mean 'Sieve'\?\)"):
        select(results, method=["Sive"])
    with pytest.raises(UsageError, match=r"There are: ResNet-50, ResNet-56\."):
        select(results, ["VGG"])
    with pytest.raises(UsageError, match="No result has all of ResNet-50, CIFAR-10"):
        select(results, ["ResNet-50"], ["CIFAR-10"])
