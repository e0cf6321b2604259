"""For schemathesis: texts of nothing but invisible characters, beyond JSON schema, are tested elsewhere."""

from __future__ import annotations

import schemathesis

from zhsenti.data.text import text_fault


@schemathesis.hook
def filter_body(context, body):
    values = body if isinstance(body, dict) else {}
    texts = [values.get("text"), *(values["texts"] if isinstance(values.get("texts"), list) else [])]
    return not any(text_fault(text) for text in texts if isinstance(text, str) and text)
