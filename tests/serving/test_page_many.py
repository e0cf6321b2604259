"""Many reviews on the page: table, charts, downloads; called off, and taken up again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.serving.page import (
    bodies,
    csv_of,
    downloaded,
    expect,
    finished,
    give,
    judge_file,
    judge_lines,
    rows_of,
)
from tests.serving.running import SlowPredictor
from tests.waiting import until
from zhsenti.task import SentimentTask


def test_aspects_of_many_reviews(visit, serve):
    task = SentimentTask(template="关于{aspect}的评论：{text}\n情感倾向：")
    page = visit(serve(models={"方面": SlowPredictor(task=task)}), failures="422")
    sent = bodies(page)
    expect(page.locator("#model")).to_be_hidden()  # there is only one
    expect(page.locator("#aspect")).to_be_visible()
    page.fill("#aspect", "服务")
    judge_lines(page, "很好", "很差")
    assert sent.pop() == {"texts": ["很好", "很差"], "model": "方面", "aspect": ["服务", "服务"]}
    judge_file(page, "a.csv", "文本,方面\n很好,价格\n很差,\n".encode())
    assert sent[0]["aspect"] == ["价格", ""]
    assert page.locator("#aspect-column").input_value() == "1"
    assert [row[2] for row in rows_of(page)] == ["正面", "文本是空的"]  # the service refuses the blank aspect
    page.select_option("#aspect-column", "-1")
    page.click("#start")
    finished(page)
    assert sent[-1]["aspect"] == ["服务", "服务"]
    assert [row[2] for row in rows_of(page)] == ["正面", "负面"]


def test_pasted_lines_become_table_charts_and_downloads(visit, shared):
    page = visit(shared, failures="422")
    judge_lines(page, *["很好"] * 20, "", "很差，太吵", "\u200b", "=1+1很好", "-5")
    assert len(rows_of(page)) == 24  # the empty line is none
    assert rows_of(page)[21][2:] == ["文本里只有看不见的字符"]
    expect(page.locator("#by-label svg")).to_have_attribute(
        "aria-label", "负面：2 条，8.3%；正面：21 条，87.5%；错误：1 条，4.2%"
    )
    assert "80–90%：21 条" in page.locator("#by-confidence svg").get_attribute("aria-label")
    table = csv_of(page)
    assert list(table[0]) == ["text", "label", "confidence", "score_负面", "score_正面", "truncated", "error"]
    assert [row["text"] for row in table[-2:]] == ["'=1+1很好", "-5"]  # no formula runs, numbers stay numbers
    assert table[21]["error"] == "文本里只有看不见的字符"
    assert table[21]["label"] == ""
    assert (
        float(table[0]["confidence"]) == pytest.approx(float(table[0]["score_正面"])) == pytest.approx(0.8808, abs=1e-4)
    )
    lines = [json.loads(line) for line in downloaded(page, "jsonl").splitlines()]
    assert len(lines) == 24
    assert lines[0]["truncated"] is False
    assert lines[21]["confidence"] is None
    page.select_option("#results-sort", "most_sure")
    assert rows_of(page)[0][1] == "很差，太吵"
    page.select_option("#results-only", "error")
    assert [row[0] for row in rows_of(page)] == ["22"]


def test_long_tables_have_pages(visit, shared):
    page = visit(shared)
    judge_lines(page, *[f"第{i}次很好" for i in range(1, 251)])
    expect(page.locator("#rows tbody tr")).to_have_count(200)
    page.focus("#page-next")
    page.keyboard.press("Enter")
    assert [row[0] for row in rows_of(page)] == [str(i) for i in range(201, 251)]
    expect(page.locator("#page-next")).to_be_disabled()
    expect(page.locator("#page-previous")).to_be_focused()


def test_text_that_the_model_fails_on_costs_itself_only(visit, shared):
    page = visit(shared, failures="500")
    judge_lines(page, *["很好"] * 9, "爆炸", *["很差"] * 9)
    rows = rows_of(page)
    assert [row[2] for row in rows] == [*["正面"] * 9, "模型算不出这个请求；服务的日志里有原因", *["负面"] * 9]


def test_busy_service_is_waited_for(visit, serve):
    page = visit(serve(models={"demo": SlowPredictor(0.3)}, max_queue_requests=1), failures="429")
    page.click("#tab-many")
    page.fill("#lines", "很好\n" * 40)
    page.click("#start")
    expect(page.locator("#progress-text")).to_contain_text("服务忙")
    finished(page)
    assert [row[2] for row in rows_of(page)] == ["正面"] * 40


def test_cancelled_batch_keeps_what_is_done(visit, serve):
    predictor = SlowPredictor()
    server = serve(models={"demo": predictor})
    page = visit(server)
    answered: list[str] = []
    page.on("response", lambda response: answered.extend(_texts_of(response)))
    predictor.after_call = predictor.gate.clear  # one batch, then it is slow
    texts = [f"第{i}条{'很差' if i % 3 == 0 else '很好'}" for i in range(1, 101)]
    page.click("#tab-many")
    give(page, "百条.csv", "\n".join(["text", *texts]).encode())
    expect(page.locator("#file-name")).to_have_text("百条.csv：100 行")
    page.click("#start")
    expect(page.locator("#progress-text")).to_have_text(re.compile("^(16|32|48|64|80|96) / 100 条"))  # whole requests
    expect(page.locator("#many-cancel")).to_be_visible()
    page.click("#many-cancel")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    until(lambda: server.service.batcher.waiting == 0)  # requests on their way are called off

    done = [text for text in texts if text in answered]
    assert 0 < len(done) < 100
    expect(page.locator("#progress-text")).to_have_text(f"已取消：{len(done)} / 100 条")
    expect(page.locator("#many-news")).to_have_text(f"已取消：做完 {len(done)} / 100 条，结果保留在下面。")
    expect(page.locator("#results")).to_contain_text(f"只含已经做完的 {len(done)} 条。")
    expected = [(text, "负面" if "很差" in text else "正面") for text in done]
    assert [(row[1], row[2]) for row in rows_of(page)] == expected
    assert [row[0] for row in rows_of(page)] == [re.findall(r"\d+", text)[0] for text in done]
    assert [(row["text"], row["label"]) for row in csv_of(page)] == expected
    lines = map(json.loads, downloaded(page, "jsonl").splitlines())
    assert [(line["text"], line["label"]) for line in lines] == expected
    drawn = page.locator("#by-label svg").get_attribute("aria-label")
    counts = [sum(label == one for _, label in expected) for one in ("负面", "正面")]
    assert [int(count) for count in re.findall(r"：(\d+) 条", drawn)] == counts

    predictor.after_call = lambda: None
    predictor.gate.set()
    judge_file(page, "再来.csv", "text\n很差\n很好\n".encode())
    assert [row[1:3] for row in rows_of(page)] == [["很差", "负面"], ["很好", "正面"]]
    expect(page.locator("#progress-text")).to_have_text("2 / 2 条")


def _texts_of(response: Any) -> list[str]:
    is_answer = response.url.endswith("/v1/predict") and response.ok
    return response.request.post_data_json["texts"] if is_answer else []


def test_cancelled_batch_goes_on(visit, serve):
    predictor = SlowPredictor()
    server = serve(models={"demo": predictor})
    page = visit(server)
    sent = bodies(page)
    predictor.after_call = predictor.gate.clear  # one batch, then it is slow
    texts = [f"第{i}条很好" for i in range(1, 101)]
    page.click("#tab-many")
    page.fill("#lines", "\n".join(texts))
    page.click("#start")
    expect(page.locator("#progress-text")).to_have_text(re.compile("^(16|32|48|64|80|96) / 100 条"))
    assert page.evaluate("window.dispatchEvent(new Event('beforeunload', { cancelable: true }))") is False  # warns
    page.click("#many-cancel")
    expect(page.locator("#progress-text")).to_contain_text("已取消")
    until(lambda: server.service.batcher.waiting == 0)
    done = [row[1] for row in rows_of(page)]
    sent.clear()
    predictor.after_call = lambda: None
    predictor.gate.set()
    page.focus("#go-on")
    page.keyboard.press("Enter")
    finished(page)
    assert [row[1] for row in rows_of(page)] == texts
    assert sorted(text for body in sent for text in body["texts"]) == sorted(set(texts) - set(done))
    expect(page.locator("#go-on")).to_be_hidden()
    expect(page.locator("#start")).to_be_focused()
    assert page.evaluate("window.dispatchEvent(new Event('beforeunload', { cancelable: true }))") is True


def test_escape_cancels_although_the_start_button_is_off(visit, serve):
    predictor = SlowPredictor()
    page = visit(serve(models={"demo": predictor}))
    predictor.gate.clear()
    page.click("#tab-many")
    page.fill("#lines", "很好\n很差")
    page.click("#start")
    expect(page.locator("#start")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.locator("#progress-text")).to_have_text("已取消：0 / 2 条")
    expect(page.locator("#results")).to_be_hidden()
    page.click("#start")
    expect(page.locator("#many-cancel")).to_be_visible()
    page.focus("#many-cancel")
    page.keyboard.press("Enter")
    expect(page.locator("#start")).to_be_focused()  # not lost with the button that goes
    predictor.gate.set()
    page.keyboard.press("Enter")
    finished(page)
    assert [row[2] for row in rows_of(page)] == ["正面", "负面"]


def test_label_that_the_model_was_not_known_to_have(visit, shared):
    page = visit(shared)

    def relabel(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        body["results"][1]["label"] = "中性"
        route.fulfill(response=answer, json=body)

    page.route("**/v1/predict", relabel)
    judge_lines(page, "很好", "很差")
    assert [row[2] for row in rows_of(page)] == ["正面", "中性"]
    drawn = page.locator("#by-label svg").get_attribute("aria-label")
    assert drawn == "负面：0 条，0.0%；正面：1 条，50.0%；中性：1 条，50.0%"
    page.select_option("#results-only", label="中性（1）")
    assert [row[1] for row in rows_of(page)] == ["很差"]
