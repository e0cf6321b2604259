"""The page in a real Chromium against the real app: one review, and a service that refuses, stops or changes."""

from __future__ import annotations

import json
from typing import Any

from tests.serving.page import (
    HOSTILE,
    MIXED,
    bodies,
    downloaded,
    expect,
    finished,
    judge,
    judge_file,
    judge_lines,
    rows_of,
)
from tests.serving.running import SlowPredictor
from tests.waiting import until
from zhsenti.serving.limits import Gate

KEY = "a-key-of-twenty-bytes"


def test_one_review_and_what_it_hangs_on(visit, shared):
    page = visit(shared)
    judge(page, MIXED)
    expect(page.locator("#label")).to_have_text("正面")
    expect(page.locator("#confidence")).to_have_text("88.1%")
    expect(page.locator("#answer")).to_contain_text("未校准")
    marks = page.locator("#marked mark")
    expect(page.locator("#marked")).to_have_text(MIXED)  # places are right after a character of two code units
    assert "".join(page.locator("#marked mark.for").all_inner_texts()) == "很好不错"
    assert page.locator("#marked mark.against").all_inner_texts() == ["太吵"]
    assert marks.last.get_attribute("title") == "反对 −2.00"
    lines = {mark.evaluate("node => getComputedStyle(node).textDecorationStyle") for mark in marks.all()}
    assert lines == {"solid", "dashed"}  # not by colour alone
    expect(page.locator("#clauses tbody tr")).to_have_count(3)
    expect(page.locator("#single-news")).to_contain_text("依据在下面")


def test_calibrated_model_says_so_and_reasons_are_optional(visit, shared):
    page = visit(shared)
    page.select_option("#model", HOSTILE)
    page.uncheck("#explain")
    judge(page, "太吵")
    expect(page.locator("#answer")).to_contain_text("已校准（温度 1.31）")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    assert page.locator("#marked").count() == 0


def test_aspect_is_asked_for_where_the_model_takes_one(visit, shared):
    page = visit(shared, failures="422")
    sent = bodies(page)
    expect(page.locator("#aspect")).to_be_hidden()
    page.select_option("#model", "方面")
    expect(page.get_by_label("方面", exact=True)).to_be_visible()
    judge(page, "很好")
    expect(page.locator("#single-alert")).to_contain_text("这个模型要给方面")
    assert sent == []
    page.fill("#aspect", " 服务 ")
    page.click("#judge")
    expect(page.locator("#label")).to_have_text("正面")
    expect(page.locator("#marked")).to_have_text("很好")
    asked = {"text": "很好", "model": "方面", "aspect": "服务"}
    assert sent == [asked, asked | {"explain": True}]
    page.select_option("#model", "demo")
    expect(page.locator("#aspect")).to_be_hidden()
    page.uncheck("#explain")
    page.click("#judge")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    assert sent[2] == {"text": "很好", "model": "demo"}  # the aspect that was given is not sent where none is taken


def test_newer_question_replaces_older_and_escape_cancels(visit, serve):
    predictor = SlowPredictor()
    page = visit(serve(models={"demo": predictor}))
    predictor.gate.clear()
    judge(page, "很差")
    until(lambda: ["很差"] in predictor.seen)
    judge(page, "很好")
    predictor.gate.set()
    expect(page.locator("#label")).to_have_text("正面")
    expect(page.locator("#marked")).to_have_text("很好")
    predictor.gate.clear()
    page.click("#judge")
    page.keyboard.press("Escape")
    expect(page.locator("#answer")).to_have_text("已取消。")
    expect(page.locator("#single-cancel")).to_be_hidden()


def test_refused_text_is_explained_in_both_languages(visit, shared):
    page = visit(shared, failures="422")
    page.click("#judge")
    expect(page.locator("#single-alert")).to_have_text("还没有评论：先输入一条。")
    judge(page, "  ")
    expect(page.locator("#single-alert")).to_contain_text("文本是空的")
    assert page.locator("#single-alert button").count() == 0  # trying again would not help
    page.click("#language")
    expect(page.locator("#single-alert")).to_contain_text("This text cannot be used")


def test_server_that_stops_and_comes_back(visit, serve):
    server = serve()
    page = visit(server, failures="net::")
    server.stop()
    judge(page, "很好")
    expect(page.locator("#single-alert")).to_contain_text("连不上服务")
    page.click("#tab-many")
    page.fill("#lines", "很好\n很差")
    page.click("#start")
    expect(page.locator("#many-alert")).to_contain_text("连不上服务")
    serve(port=server.port)
    page.click("#many-alert button")
    finished(page)
    assert [row[2] for row in rows_of(page)] == ["正面", "负面"]
    expect(page.locator("#start")).to_be_focused()  # not lost with the button that goes
    page.click("#tab-single")
    page.click("#single-alert button")
    expect(page.locator("#judge")).to_be_focused()
    expect(page.locator("#label")).to_have_text("正面")


def test_key_is_asked_for_and_forgotten_with_the_tab(browser, serve):
    server = serve(gate=Gate(None, KEY.encode(), 1 << 20))
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#key")).to_be_focused()
    for wrong, said in (("不行", "只能有 ASCII 字符"), ("wrong-wrong-wrong-wrong", "不接受这个 key")):
        page.fill("#key", wrong)
        page.keyboard.press("Enter")
        expect(page.locator("#key-hint")).to_contain_text(said)
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#about")).to_contain_text("模型 demo")
    expect(page.locator("#key-panel")).to_be_hidden()
    expect(page.locator("#model-field")).to_be_hidden()  # there is only one
    judge(page, "很好")
    expect(page.locator("#label")).to_have_text("正面")
    kept = page.evaluate("[Object.values(sessionStorage), Object.values(localStorage), document.cookie]")
    assert kept == [[KEY], [], ""]
    context.close()


def test_key_is_asked_for_once_where_nothing_can_be_stored(visit, serve):
    blocked = """for (const name of ["sessionStorage", "localStorage"]) {
        Object.defineProperty(window, name, { get: () => { throw new DOMException("blocked", "SecurityError"); } });
    }"""
    server = serve(gate=Gate(None, KEY.encode(), 1 << 20))
    page = visit(server, failures="401", prepare=lambda page: page.add_init_script(blocked))
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#about")).to_contain_text("模型 demo")
    judge(page, "很好")
    expect(page.locator("#label")).to_have_text("正面")
    expect(page.locator("#marked")).to_be_visible()  # nothing is on its way when the server stops
    expect(page.locator("#key-panel")).to_be_hidden()


def test_cancelled_while_the_key_is_asked_for(visit, serve):
    server = serve(gate=Gate(None, KEY.encode(), 1 << 20))
    page = visit(server, failures="401", prepare=lambda page: None)
    sent = bodies(page)
    expect(page.locator("#key")).to_be_focused()
    judge(page, "很差")
    page.focus("#single-cancel")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("已取消。")
    expect(page.locator("#judge")).to_be_focused()
    page.click("#judge")
    page.focus("#key")
    page.keyboard.press("Escape")
    expect(page.locator("#answer")).to_have_text("已取消。")
    page.click("#tab-many")
    page.fill("#lines", "很差")
    page.click("#start")
    expect(page.locator("#start")).to_be_disabled()
    page.click("#many-cancel")
    expect(page.locator("#many-news")).to_have_text("已取消。")
    expect(page.locator("#start")).to_be_focused()
    page.fill("#key", KEY)
    page.press("#key", "Enter")
    expect(page.locator("#about")).to_contain_text("模型 demo")
    judge_lines(page, "很好")
    assert [body["texts"] for body in sent] == [["很好"]]  # what was cancelled did not start after all


def test_cancelled_while_the_models_do_not_come(visit, shared):
    held: list[Any] = []
    page = visit(shared, prepare=lambda page: page.route("**/v1/models", lambda route: held.append(route)))
    judge(page, "很差")
    page.click("#single-cancel")
    expect(page.locator("#answer")).to_have_text("已取消。")
    page.click("#tab-many")
    page.fill("#lines", "很差")
    page.click("#start")
    page.click("#many-cancel")
    expect(page.locator("#start")).to_be_enabled()
    held[0].continue_()
    judge_lines(page, "很好")
    assert [row[1:3] for row in rows_of(page)] == [["很好", "正面"]]


def test_why_there_are_no_models_is_said(visit, shared):
    refusal = {"error": {"code": "internal_error", "message": "服务出错了", "details": []}}

    def begin(page: Any) -> None:
        page.route("**/v1/models", lambda route: route.fulfill(status=500, json=refusal))

    page = visit(shared, failures="500", prepare=begin)
    expect(page.locator("#startup-alert")).to_contain_text("服务出错了")
    judge(page, "很好")
    expect(page.locator("#single-alert")).to_contain_text("服务出错了")
    page.click("#tab-many")
    page.fill("#lines", "很好")
    page.click("#start")
    expect(page.locator("#many-alert")).to_have_text("服务出错了")
    page.unroute("**/v1/models")
    page.click("#startup-alert button")
    expect(page.locator("#about")).to_contain_text("模型 demo")
    expect(page.locator("#tab-many")).to_be_focused()  # not lost with the button that goes


def test_restarted_service_may_have_other_models(visit, serve):
    not_ready = {"error": {"code": "not_ready", "message": "预热", "details": []}}
    server = serve(models={"甲": SlowPredictor(), "乙": SlowPredictor()})

    def begin(page: Any) -> None:
        page.route("**/readyz", lambda route: route.fulfill(status=503, json=not_ready))

    page = visit(server, failures="503", prepare=begin)
    expect(page.locator("#status")).to_have_text("服务还在预热")
    expect(page.locator("#model option")).to_have_text(["甲", "乙"])
    page.select_option("#model", "乙")
    server.stop()
    calibrated = SlowPredictor()
    calibrated.temperature = 1.31
    serve(port=server.port, models={"丙": SlowPredictor(), "甲": SlowPredictor(), "乙": calibrated})
    page.unroute("**/readyz")
    expect(page.locator("#model option")).to_have_text(["丙", "甲", "乙"])
    expect(page.locator("#model")).to_have_value("乙")
    judge(page, "很好")
    expect(page.locator("#answer")).to_contain_text("已校准（温度 1.31）")
    expect(page.locator("#marked")).to_be_visible()  # nothing is on its way when the server stops


def test_markup_in_data_is_text(visit, shared):
    page = visit(shared)
    page.select_option("#model", HOSTILE)
    expect(page.locator("#about")).to_contain_text(HOSTILE)
    judge(page, f"{HOSTILE}很好")
    expect(page.locator("#marked")).to_have_text(f"{HOSTILE}很好")
    judge_file(
        page, f"{HOSTILE.replace('/', '')}.csv", f'text,{HOSTILE},__proto__\n"{HOSTILE}很好",{HOSTILE},x\n'.encode()
    )
    expect(page.locator("#rows")).to_contain_text(HOSTILE)
    line = json.loads(downloaded(page, "jsonl"))
    assert line[HOSTILE] == HOSTILE
    assert line["__proto__"] == "x"
    assert page.evaluate("[document.images.length, window.stolen === undefined]") == [0, True]
