"""Labels beside pictures: tables, CelebA's published files, and folders of classes; parts of a set."""

import re
import zipfile
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from cldis_jax import data
from cldis_jax.configs import scenes
from cldis_jax.data import DataError, labels
from cldis_jax.data.folder import Folder


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 30 * int(name.rpartition(".")[0][-1])).save(root / name)
    return root


def attributes(source):
    return source.attributes(np.arange(len(source))).tolist()


@pytest.fixture
def celeba(tmp_path):
    """CelebA's files as they are published, with three images."""
    root = tmp_path / "CelebA"
    pictures(root / "Img/img_align_celeba", "000001.jpg", "000002.jpg", "000003.jpg")
    for folder in ("Anno", "Eval"):
        (root / folder).mkdir()
    rows = ["3", "Bald Smiling Young ", "000001.jpg -1  1  1", "000002.jpg  1 -1  1", "000003.jpg -1 -1 -1"]
    (root / "Anno/list_attr_celeba.txt").write_text("\r\n".join(rows) + "\r\n")
    (root / "Eval/list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    return root


@pytest.mark.parametrize("form", ["folder", "zip", "beside", "inside"])
def test_celeba_as_it_is_published(celeba, form):
    path = celeba / "Img/img_align_celeba"
    if form == "zip":
        path = celeba / "Img/img_align_celeba.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((celeba / "Img/img_align_celeba").iterdir()):
                archive.write(file, f"img_align_celeba/{file.name}")
    if form in ("beside", "inside"):
        place = path if form == "inside" else path.parent
        (celeba / "Anno/list_attr_celeba.txt").rename(place / "list_attr_celeba.txt")
        (celeba / "Eval/list_eval_partition.txt").rename(place / "list_eval_partition.txt")
    source = Folder(str(path), 8)
    assert source.attribute_names == ("Bald", "Smiling", "Young")
    assert attributes(source) == [[0, 1, 1], [1, 0, 1], [0, 0, 0]]
    assert source.attributes(np.array([1])).dtype == np.int64
    assert len(source.describe(0)) == 2  # nothing is wrong
    for split, row in (("train", [0, 1, 1]), ("valid", [1, 0, 1]), ("test", [0, 0, 0])):
        part = Folder(str(path), 8, split=split)
        assert len(part) == 1
        assert attributes(part) == [row]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("attributes.csv", "file,red,old\na/1.png,1,-1\na/2.png,-1,1\n"),
        ("attributes.csv", 'file,red,old\n"a/1.png",1,-1\n"a/2.png",-1,1\n'),
        ("attributes.csv", "\ufefffile; red; old\r\na/1.png; 1; 0\r\na/2.png; 0; 1\r\n"),
        ("attributes.tsv", "file\tred\told\n./a/1.png\t1\t0\nphotos/a/2.png\tfalse\ttrue\n"),
        ("../attributes.csv", "file,red,old\nphotos/a/1.png,1,0\nphotos/a/2.jpg,0,1\n"),
        ("attributes.csv", "file,red,old,age,split\n1.png,1,0,33,train\n2.png,0,1,27,test\n"),
    ],
)
def test_tables(tmp_path, file, text):
    root = pictures(tmp_path / "photos", "a/1.png", "a/2.png")
    (root / file).write_text(text, "utf-8")
    source = Folder(str(root), 8)
    assert source.attribute_names == ("red", "old")
    assert attributes(source) == [[1, 0], [0, 1]]
    if "age" in text:
        assert any("other values than 0, 1 and -1: age" in line for line in source.describe(0))
        assert Folder(str(root), 8, split="test").names == ("a/2.png",)


def test_labels_follow_the_images_that_are_left(tmp_path):
    root = pictures(tmp_path, "1.png", "2.png", "3.png")
    (root / "1.png").write_bytes(b"torn")
    (root / "attributes.csv").write_text("file,red\n1.png,0\n2.png,1\n3.png,0\n")
    assert attributes(Folder(str(root), 8)) == [[1], [0]]


def test_missing_double_and_unknown_rows_are_named_and_counted(tmp_path):
    root = pictures(tmp_path, *(f"{i}.png" for i in range(1, 9)))
    rows = ["1.png,1", "1.png,0", "2.png", "9.png,1", "8.png,1"]
    (root / "attributes.csv").write_text("file,red\n" + "\n".join(rows))
    source = Folder(str(root), 8)
    indices = np.arange(8)
    assert source.labelled(indices).tolist() == [True, *[False] * 6, True]
    assert source.attributes(indices[source.labelled(indices)]).tolist() == [[1], [1]]
    with pytest.raises(ValueError, match="an image without labels has no attributes"):
        source.attributes(indices)
    assert source.describe(0)[-1] == (
        "attributes.csv: 6 images have no row, and metrics of labels leave them out "
        "(2.png, 3.png, 4.png, 5.png, 6.png, ...); "
        "1 rows are double, and the first counts (1.png); 1 rows have another number of cells (2.png); "
        "1 rows name no image (9.png)"
    )


def test_an_image_that_is_in_no_part_is_named(tmp_path):
    root = pictures(tmp_path, "1.png", "2.png")
    (root / "list_eval_partition.txt").write_text("1.png 0\n")
    assert Folder(str(root), 8).describe(0)[-1] == (
        "list_eval_partition.txt: 1 images have no row, and they are in no part of the set (2.png)"
    )
    assert Folder(str(root), 8, split="train").names == ("1.png",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("1.png,1\n2.png,0", "its first line must name the columns, and it holds values"),
        ("file\n1.png", "must name the columns"),
        ("file,red\nx.png,1", "names none of the images"),
    ],
)
def test_a_table_that_is_none_is_said_and_does_not_stop(tmp_path, text, said):
    root = pictures(tmp_path, "1.png", "2.png")
    (root / "attributes.csv").write_text(text)
    source = Folder(str(root), 8)
    assert source.attribute_names == ()
    assert attributes(source) == [[], []]
    assert said in source.describe(0)[-1]


def test_a_table_that_can_not_be_read_is_said_and_does_not_stop(tmp_path, monkeypatch):
    root = pictures(tmp_path, "1.png", "2.png")
    (root / "attributes.csv").write_text("file,red\n1.png,1\n2.png,0\n")
    monkeypatch.setattr(labels, "_read", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    source = Folder(str(root), 8)
    assert source.attribute_names == ()
    assert "attributes.csv can't be read as labels: [Errno 13] Permission denied" in source.describe(0)[-1]


def test_published_attributes_of_one_line_are_said_and_do_not_stop(tmp_path):
    root = pictures(tmp_path, "1.png", "2.png")
    (root / "list_attr_celeba.txt").write_text("202599\n")
    assert "its second line must name the attributes" in Folder(str(root), 8).describe(0)[-1]


def test_a_damaged_table_in_a_zip_file_is_said_and_does_not_stop(tmp_path):
    file = tmp_path / "photos.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in pictures(tmp_path / "photos", "1.png", "2.png").iterdir():
            archive.write(path, path.name)
        archive.writestr("attributes.csv", "file,red\n1.png,1\n2.png,0\n")
    file.write_bytes(file.read_bytes().replace(b"1.png,1", b"1.png,0"))
    source = Folder(str(file), 8)
    assert source.attribute_names == ()
    assert "attributes.csv can't be read as labels: Bad CRC-32" in source.describe(0)[-1]


def test_a_part_may_be_a_number_in_a_table_of_numbers(tmp_path):
    root = pictures(tmp_path, "1.png", "2.png", "3.png")
    (root / "attributes.csv").write_text("file,red,split\n1.png,1,0\n2.png,0,1\n3.png,1,0\n")
    source = Folder(str(root), 8, split="train")
    assert source.names == ("1.png", "3.png")
    assert source.attribute_names == ("red",)


def test_folders_are_classes_if_all_are_at_one_depth(tmp_path):
    root = pictures(tmp_path, "cat/1.png", "dog/2.png", "ant/3.png")
    source = Folder(str(root), 8)
    assert source.attribute_names == ("ant", "cat", "dog")
    assert attributes(source) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    pictures(root, "4.png")
    assert Folder(str(root), 8).attribute_names == ()


def test_folders_of_parts_are_no_classes(tmp_path):
    root = pictures(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png")
    assert Folder(str(root), 8).attribute_names == ("dog",)  # of two classes, one says all
    assert attributes(Folder(str(root), 8)) == [[0], [0], [1]]
    source = Folder(str(root), 8, split="train")
    assert source.names == ("train/cat/1.png", "train/dog/2.png")
    assert Folder(str(root), 8, split="train/dog").names == ("train/dog/2.png",)
    flat = pictures(tmp_path / "flat", "train/1.png", "val/2.png")
    assert Folder(str(flat), 8).attribute_names == ()


def test_a_part_that_is_not_there_is_refused(tmp_path, celeba):
    root = pictures(tmp_path / "photos", "train/1.png", "test/2.png")
    with pytest.raises(DataError, match=r"data.split='valid' is no part of .*: its folders are test, train, and no"):
        Folder(str(root), 8, split="valid")
    with pytest.raises(DataError, match=r"it has no folders, its parts test, train, valid"):
        Folder(str(celeba / "Img/img_align_celeba"), 8, split="dev")


def test_a_part_is_held_out(tmp_path, capsys):
    root = pictures(tmp_path / "photos", "train/1.png", "test/2.png", "train/3.png", "test/4.png")
    config = scenes.get_config("tiny").data
    config.source, config.path, config.cache, config.holdout = "folder", str(root), "", 0.0
    config.holdout_split = "test"
    source = data.make_source(config)
    assert "4 images (2 held out)" in capsys.readouterr().err
    found = data.parts(source, config)
    assert [source.names[i] for i in found.train] == ["train/1.png", "train/3.png"]
    assert [source.names[i] for i in found.held_out] == ["test/2.png", "test/4.png"]
    config.holdout = 0.5
    with pytest.raises(DataError, match=r"data.holdout=0.5 and data.holdout_split='test' each choose"):
        data.parts(source, config)
    config.holdout, config.holdout_split = 0.0, "valid"
    with pytest.raises(DataError, match=r"data.holdout_split='valid' is no part of"):
        data.parts(source, config)


def test_a_part_of_the_published_partition_is_held_out(celeba):
    source = Folder(str(celeba / "Img/img_align_celeba"), 8)
    assert sorted(np.concatenate([source.part(name) for name in ("train", "valid", "test")])) == [0, 1, 2]


def test_make_source_says_what_it_reads(celeba, capsys, tmp_path):
    config = scenes.get_config("tiny").data
    config.source, config.path, config.holdout = "folder", str(celeba / "Img/img_align_celeba"), 0.4
    config.cache, config.split = str(tmp_path / "cache"), "train"
    source = data.make_source(config)
    assert attributes(source) == [[0, 1, 1]]
    said = capsys.readouterr().err.splitlines()
    assert said[-2].startswith("1 images (0 held out); read from ")
    assert said[-1] == "3 attributes (Bald, Smiling, Young)"


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["a/1.png,1,-1,0", "2.png ,-1,1,1"], ","),
        (["000001.jpg -1  1  1", "000002.jpg  1 -1 -1"], " "),
    ],
)
def test_plain_cells_are_read_at_once_and_as_each_alone(lines, delimiter):
    names, cells = labels._binary(lines, delimiter, 3)
    split = [re.split(f"{delimiter}+", line) for line in lines]
    assert names == [name.strip() for name, *_ in split]
    assert cells.tolist() == [[labels.VALUES[cell] for cell in others] for _, *others in split]


@pytest.mark.parametrize(
    "lines",
    [
        ["1.png,1,10", "2.png,,1"],
        ["1.png,1,0,1", "2.png,1"],
        ['"1.png",1,0', "2.png,1,1"],
        ["1.png,1,0", "2.png,1,2"],
        [],
    ],
)
def test_cells_that_are_not_plain_are_read_one_by_one(lines):
    assert labels._binary(lines, ",", 2) is None
