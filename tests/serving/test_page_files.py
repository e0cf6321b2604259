"""Files given to the page: how they are chosen, read and refused."""

from __future__ import annotations

import json
import re

import pytest

from tests.serving.page import (
    bodies,
    csv_of,
    downloaded,
    expect,
    finished,
    give,
    judge_file,
    rows_of,
)


def test_csv_with_quotes_newlines_and_columns_of_the_same_name(visit, shared):
    content = (
        '\ufeff编号,评论内容,label\r\n1,"他说""很好"",\r\n还会来",1\r\n2,很差,0\r\n3,"坏"引号,1\r\n4,很好\r\n5,,1\r\n'
    )
    page = visit(shared, failures="422")
    judge_file(page, "评论.csv", content.encode())
    found = csv_of(page)
    assert list(found[0])[:4] == ["编号", "评论内容", "label", "predicted_label"]
    assert found[0]["评论内容"] == '他说"很好",\r\n还会来'
    assert [row["predicted_label"] for row in found] == ["正面", "负面", "", "", ""]
    assert rows_of(page)[3][1] == "4 很好"
    assert [row["error"] for row in found[2:]] == [
        "引号没有闭合或写法不对：字段里的引号要写成两个", "有 2 格，列名有 3 个", "文本是空的",
    ]  # fmt: skip


def test_gb18030_and_a_file_without_column_names(visit, shared):
    page = visit(shared)
    page.click("#tab-many")
    give(page, "老.csv", "很好,㐂甲\n很差,乙\n".encode("gb18030"))
    expect(page.locator("#file-name")).to_have_text("老.csv：1 行")
    page.click("#start")
    expect(page.locator("#many-alert")).to_have_text("先选哪一列是文本。")
    page.uncheck("#has-header")
    expect(page.locator("#file-name")).to_have_text("老.csv：2 行")
    page.select_option("#text-column", label="第 1 列")
    page.click("#start")
    finished(page)
    assert [(row["column_2"], row["label"]) for row in csv_of(page)] == [("㐂甲", "正面"), ("乙", "负面")]


def test_jsonl_and_tsv(visit, shared):
    page = visit(shared)
    content = '{"id": 12345678901234567890, "text": "很好"}\n\n{"text": "坏了\n{"text": {"a": 1}, "新": null}\n'
    judge_file(page, "a.jsonl", content.encode())
    found = [json.loads(line) for line in downloaded(page, "jsonl").splitlines()]
    assert found[0]["id"] == "12345678901234567890"
    assert found[0]["label"] == "正面"
    assert found[1]["raw"] == '{"text": "坏了'
    assert found[1]["error"] == "不是合法的 JSON"
    assert found[2]["text"] == {"a": 1}
    assert found[2]["error"] == "文本不是文字"
    assert [row[1] for row in rows_of(page)] == ["很好", '{"text": "坏了', '{"a":1}']
    judge_file(page, "a.tsv", 'label\ttext_a\n1\t"很好\n0\t很差"\n'.encode())
    assert [row[1:3] for row in rows_of(page)] == [['"很好', "正面"], ['很差"', "负面"]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "好\n".encode() * 50_001, "50,001 行，这里最多 50,000 行：请用命令行 zhsenti predict"),
        ("a.csv", b"a" * (20 * 1024 * 1024 + 1), "超过 20 MB：大文件请用命令行 zhsenti predict"),
        ("a.xlsx", b"PK", "不认识的文件类型"),
        ("a.csv", b"text\n\xff\xff\n", "既不是 UTF-8，也不是 GB18030"),
        ("a.csv", b"text\n", "没有数据"),
    ],
    ids=["rows", "bytes", "type", "encoding", "empty"],
)
def test_files_that_are_not_taken(visit, shared, tmp_path, name, content, said):
    page = visit(shared)
    page.click("#tab-many")
    (tmp_path / name).write_bytes(content)
    page.set_input_files("#file", tmp_path / name)  # from the disk: much faster than 20 MB through the driver
    expect(page.locator("#many-alert")).to_contain_text(said)
    expect(page.locator("#file-name")).to_have_text("还没有选文件，也可以拖到这里")


def test_file_is_chosen_in_the_language_of_the_page(visit, shared, tmp_path):
    page = visit(shared)
    page.on("filechooser", lambda _: None)  # choosers are caught from here on: with the wait for one it may be too late
    page.click("#tab-many")
    picker, button, name = page.locator("#file"), page.locator("label[for=file]"), page.locator("#file-name")
    expect(page.get_by_label("选择文件")).to_have_id("file")
    expect(name).to_have_text("还没有选文件，也可以拖到这里")
    assert picker.evaluate("node => [node.offsetWidth, node.offsetHeight]") == [1, 1]  # its own words are not seen
    page.focus("#lines")
    page.keyboard.press("Tab")
    expect(picker).to_be_focused()
    assert button.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    file = tmp_path / "三条.txt"
    file.write_text("很好\n很差\n很好\n", encoding="utf-8")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(file)
    expect(name).to_have_text("三条.txt：3 行")
    expect(picker).to_have_accessible_description(re.compile("^三条.txt：3 行"))
    with page.expect_file_chooser():
        button.click()
    page.click("#forget-file")
    expect(name).to_have_text("还没有选文件，也可以拖到这里")
    expect(picker).to_be_focused()
    page.click("#language")
    expect(button).to_have_text("Choose a file")
    expect(name).to_have_text("No file chosen; you can also drop one here")
    give(page, "a.txt", "很好\n很差".encode())
    expect(name).to_have_text("a.txt: 2 rows")


def test_file_is_dropped(visit, shared):
    page = visit(shared)
    page.click("#tab-many")
    drop = """() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File(["text\\n很好\\n"], "拖来.csv"));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
    }"""
    page.evaluate(drop)
    expect(page.locator("#file-name")).to_have_text("拖来.csv：1 行")
    assert page.evaluate("document.getElementById('file').files[0].name") == "拖来.csv"


def test_only_files_are_caught_when_dragged_and_never_open(visit, shared):
    page = visit(shared)
    page.click("#tab-many")
    # whether the browser's own doing is called off, which for a file is to open it in place of the page
    drag = """([id, kind]) => ["dragover", "drop"].map((name) => {
        const dataTransfer = new DataTransfer();
        if (kind === "file") dataTransfer.items.add(new File(["很好"], "a.txt"));
        else dataTransfer.setData("text/plain", "很好");
        const event = new DragEvent(name, { dataTransfer, bubbles: true, cancelable: true });
        document.getElementById(id).dispatchEvent(event);
        return event.defaultPrevented;
    })"""
    assert page.evaluate(drag, ["lines", "text"]) == [False, False]
    assert page.evaluate(drag, ["about", "file"]) == [True, True]
    expect(page.locator("#file-name")).to_have_text("还没有选文件，也可以拖到这里")
    assert page.evaluate(drag, ["lines", "file"]) == [True, True]
    expect(page.locator("#file-name")).to_have_text("a.txt：1 行")


def test_of_two_files_the_later_counts_and_start_waits_for_it(visit, shared):
    page = visit(shared)
    sent = bodies(page)
    page.click("#tab-many")
    page.evaluate(
        """() => {
            const read = Blob.prototype.arrayBuffer;
            Blob.prototype.arrayBuffer = function () {
                if (this.name !== "慢.csv") return read.call(this);
                const bytes = new Promise((resolve) => (window.letGo = resolve)).then(() => read.call(this));
                window.finish = () => (window.letGo(), bytes.then(() => new Promise((resolve) => setTimeout(resolve))));
                return bytes;
            };
        }"""
    )
    give(page, "慢.csv", "text\n很好\n很差\n".encode())
    give(page, "快.csv", "text\n很好\n".encode())
    expect(page.locator("#file-name")).to_have_text("快.csv：1 行")
    page.evaluate("finish()")
    expect(page.locator("#file-name")).to_have_text("快.csv：1 行")
    page.click("#forget-file")
    page.fill("#lines", "粘贴的")
    give(page, "慢.csv", "text\n很好\n很差\n".encode())
    page.click("#start")
    expect(page.locator("#many-cancel")).to_be_visible()
    page.evaluate("finish()")
    finished(page)
    assert [body["texts"] for body in sent] == [["很好", "很差"]]


def test_column_is_kept_when_the_names_come_and_go(visit, shared):
    page = visit(shared)
    page.click("#tab-many")
    give(page, "a.csv", "text,b\n很差,很好\n".encode())
    expect(page.locator("#text-column")).to_have_value("0")
    page.select_option("#text-column", "1")
    page.uncheck("#has-header")
    expect(page.locator("#file-name")).to_have_text("a.csv：2 行")
    expect(page.locator("#text-column")).to_have_value("1")
    page.check("#has-header")
    expect(page.locator("#file-name")).to_have_text("a.csv：1 行")
    expect(page.locator("#text-column")).to_have_value("1")
    page.click("#start")
    finished(page)
    assert [row[1:3] for row in rows_of(page)] == [["很好", "正面"]]
