import sys

import pytest
import torch

from sparsify.data.tokens import read
from sparsify.errors import InputError, UsageError

tokenizers = pytest.importorskip("tokenizers")

TEXT = "a cat\nsaw a dög"
WORDS = {"a": 0, "cat": 1, "saw": 2, "dög": 3, "[UNK]": 4, "[CLS]": 5}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def tokenizer():
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 5)])
    made.enable_truncation(3)
    return made


def test_bytes(text):
    found = read(text)
    assert found.dtype == torch.uint8
    assert bytes(found.tolist()).decode() == TEXT


def test_a_file_of_tokenizers(text, tmp_path):
    tokenizer().save(str(tmp_path / "words.json"))
    found = read(text, tmp_path / "words.json")
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 1, 2, 0, 3]  # nothing added, nothing cut


def test_a_folder_of_transformers(text, tmp_path):
    transformers = pytest.importorskip("transformers")
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer(), unk_token="[UNK]")
    wrapped.save_pretrained(str(tmp_path / "saved"))
    assert read(text, tmp_path / "saved").tolist() == [0, 1, 2, 0, 3]


def test_a_tokenizer_without_a_fast_one(text, tmp_path):
    transformers = pytest.importorskip("transformers")
    made = transformers.ByT5Tokenizer()
    made.save_pretrained(str(tmp_path / "byt5"))
    assert not (tmp_path / "byt5" / "tokenizer.json").exists()
    assert read(text, tmp_path / "byt5").tolist() == [byte + 3 for byte in TEXT.encode()]


def test_what_cannot_be_read(text, tmp_path):
    with pytest.raises(InputError, match=r"nothing\.txt does not exist"):
        read(tmp_path / "nothing.txt")
    with pytest.raises(InputError, match=r"tokenizer .*nothing\.json does not exist"):
        read(text, tmp_path / "nothing.json")
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer .*broken\.json cannot be read"):
        read(text, tmp_path / "broken.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"tokenizer .*empty cannot be read"):
        read(text, tmp_path / "empty")
    tokenizer().save(str(tmp_path / "words.json"))
    text.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"text\.txt cannot be read as UTF-8"):
        read(text, tmp_path / "words.json")


def test_without_the_library(text, tmp_path, monkeypatch):
    tokenizer().save(str(tmp_path / "words.json"))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UsageError, match="pip install tokenizers"):
        read(text, tmp_path / "words.json")
