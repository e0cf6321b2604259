"""The page by keyboard, in both languages, in the dark and on a phone."""

from __future__ import annotations

import re

from tests.serving.page import (
    MIXED,
    expect,
    finished,
    give,
    judge,
    judge_file,
    judge_lines,
    rows_of,
)


def test_by_keyboard_alone(visit, shared):
    page = visit(shared)
    press = page.keyboard.press

    def tab_to(wanted: str) -> None:
        for _ in range(20):
            press("Tab")
            if page.evaluate("document.activeElement.id") == wanted:
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", f"no visible focus on {wanted}"
                return
        raise AssertionError(f"Tab does not reach {wanted}")

    for wanted in ("language", "theme", "model", "tab-single", "text"):  # in this order
        tab_to(wanted)
    page.keyboard.insert_text("很好")
    press("Control+Enter")
    expect(page.locator("#label")).to_have_text("正面")
    tab_to("judge")
    for _ in range(20):
        press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "tab-single":
            break
    press("ArrowRight")
    expect(page.locator("#tab-many")).to_be_focused()
    tab_to("lines")
    page.keyboard.insert_text("很好\n很差")
    press("Control+Enter")
    finished(page)
    tab_to("download-csv")
    with page.expect_download():
        press("Enter")
    tab_to("results-only")
    press("ArrowDown")
    assert [row[2] for row in rows_of(page)] == ["负面"]
    expect(page.locator("#results-only")).to_be_focused()  # although the table was drawn anew


def test_every_control_has_a_name(visit, shared):
    page = visit(shared)
    judge(page, MIXED)
    expect(page.locator("#marked")).to_be_visible()
    judge_file(page, "a.csv", "文本,b\n很好,1\n".encode())
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, textarea, button, [role=img], progress")].filter(
            (node) => !node.labels?.length && !node.textContent.trim() && !node.getAttribute("aria-label")
        ).map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_language_and_theme_are_remembered(visit, shared):
    page = visit(shared)
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    judge_lines(page, "很好")
    page.click("#language")
    page.click("#theme")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page).to_have_title("Chinese sentiment")
    judge_lines(page, "很好")
    left = page.evaluate("document.body.innerText")
    chinese = set(re.findall("[一-鿿]+", left)) - {"中文", "很好", "正面", "负面"}
    assert all("评论" in word or word in "关于方面" for word in chinese), chinese


def test_dark_follows_the_system(visit, shared):
    page = visit(shared, color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_narrow_phone_does_not_scroll_sideways(visit, shared):
    page = visit(shared, failures="422", viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    judge(page, MIXED + "a" * 300)
    expect(page.locator("#marked")).to_be_visible()
    assert page.evaluate(wide) == 0
    judge_lines(page, "很好" + "x" * 500, "\u200b", *["很差"] * 250)
    assert page.evaluate(wide) == 0
    for _ in ("English", "中文"):
        page.click("#language")
        too_wide = "nodes => nodes.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
        assert page.locator("#rows th, #rows td").evaluate_all(too_wide) == []
    give(page, "n" * 120 + ".csv", ("文本," + "y" * 200 + "\n很好,1\n").encode())
    expect(page.locator("#file-name")).to_be_visible()
    assert page.evaluate(wide) == 0
