"""Program text for a model's page, and an answer of the gateway in the form a page shows."""

from __future__ import annotations

import json
import shlex
from typing import Any

from django.conf import settings

from datanets.models import Datanet, Record

from .models import ListedModel
from .playground import endpoint_of

SHOWN_MAX = 5
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
# One grey pixel: a sample that can be sent as it stands.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


def of(model: ListedModel, datanet: Datanet | None, *, key: str) -> list[dict[str, str]]:
    """The same call in Python, curl and JavaScript. key: the beginning of the reader's own key, or ""."""
    endpoint, base = endpoint_of(model, datanet), f"{settings.GATEWAY_URL}/v1"
    secret = f"{key}…" if key else "open_sk_…"
    if endpoint == CHAT:
        body: dict[str, Any] = {"model": model.path, "messages": [{"role": "user", "content": "Your question"}]}
        python = (
            f'from openai import OpenAI\n\nclient = OpenAI(base_url="{base}", api_key="{secret}")\n'
            f'answer = client.chat.completions.create(\n    model="{model.path}",\n'
            '    messages=[{"role": "user", "content": "Your question"}],\n)\n'
            "print(answer.choices[0].message.content)\nprint(answer.open)  # receipt, cost, split\n"
        )
        javascript = (
            f'import OpenAI from "openai";\n\nconst client = new OpenAI({{ baseURL: "{base}", apiKey: "{secret}" }});\n'
            f'const answer = await client.chat.completions.create({{\n  model: "{model.path}",\n'
            '  messages: [{ role: "user", content: "Your question" }],\n});\n'
            "console.log(answer.choices[0].message.content, answer.open);\n"
        )
    elif endpoint == EMBEDDINGS:
        body = {"model": model.path, "input": ["Your text", "Another text"]}
        python = (
            f'from openai import OpenAI\n\nclient = OpenAI(base_url="{base}", api_key="{secret}")\n'
            f'answer = client.embeddings.create(\n    model="{model.path}",\n'
            '    input=["Your text", "Another text"],\n)\n'
            "print(len(answer.data), len(answer.data[0].embedding))\nprint(answer.open)  # receipt, cost, split\n"
        )
        javascript = (
            f'import OpenAI from "openai";\n\nconst client = new OpenAI({{ baseURL: "{base}", apiKey: "{secret}" }});\n'
            f'const answer = await client.embeddings.create({{\n  model: "{model.path}",\n'
            '  input: ["Your text", "Another text"],\n});\n'
            "console.log(answer.data[0].embedding.length, answer.open);\n"
        )
    else:
        body = {"model": model.path, "input": _sample_input(datanet)}
        said = _indented(_as_python(body))
        short = endpoint.removeprefix("/v1")
        python = (
            f'from openai import OpenAI\n\nclient = OpenAI(base_url="{base}", api_key="{secret}")\n'
            f'answer = client.post(\n    "{short}",\n    cast_to=object,\n    body={said},\n)\n'
            'print(answer["open"])  # receipt, cost, split\n'
        )
        javascript = (
            f'const answer = await fetch("{settings.GATEWAY_URL}{endpoint}", {{\n  method: "POST",\n'
            f'  headers: {{ authorization: "Bearer {secret}", "content-type": "application/json" }},\n'
            f"  body: JSON.stringify({_indented(json.dumps(body, indent=2, ensure_ascii=False), 2)}),\n}});\n"
            "console.log(await answer.json());\n"
        )
    curl = (
        f'curl {settings.GATEWAY_URL}{endpoint} \\\n  -H "Authorization: Bearer {secret}" \\\n'
        f'  -H "Content-Type: application/json" \\\n  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}\n'
    )
    return [
        {"label": "Python", "language": "python", "source": python},
        {"label": "curl", "language": "bash", "source": curl},
        {"label": "JavaScript", "language": "javascript", "source": javascript},
    ]


def shown_answer(answer: dict[str, Any]) -> dict[str, Any]:
    """What a page shows of an answer: text or label or value, likely classes, citations, tokens, cost.

    Records are named by their public identity in an answer; those that this site knows get their page.
    """
    opened = answer.get("open", {})
    choices = answer.get("choices") or [{}]
    probabilities = answer.get("probabilities") or {}
    citations, neighbours = opened.get("citations") or [], answer.get("neighbours") or []
    named = [each.get("record") for each in (*citations, *neighbours) if each.get("record")]
    pages = dict(Record.objects.filter(identity__in=named).values_list("identity", "pk"))
    return {
        "text": (choices[0].get("message") or {}).get("content") or "",
        "label": answer.get("label"),
        "value": answer.get("value"),
        "classes": sorted(probabilities.items(), key=lambda each: -each[1])[:SHOWN_MAX],
        "citations": [each | {"page": pages.get(each.get("record"))} for each in citations],
        "neighbours": [each | {"page": pages.get(each.get("record"))} for each in neighbours],
        "usage": answer.get("usage") or {},
        "cost_nano": opened.get("cost_nano", 0),
        "is_free": opened.get("paid_by") == "developer",
        "split": opened.get("split") or {},
    }


def _sample_input(datanet: Datanet | None) -> Any:
    if datanet is None or datanet.kind == Datanet.Kind.TEXT:
        return "Your text"
    if datanet.kind == Datanet.Kind.IMAGE:
        return {"image": _PNG}
    label = datanet.schema.get("label")
    columns = [column for column in datanet.schema["columns"] if column["name"] != label]
    return {column["name"]: _sample_value(column) for column in columns}


def _sample_value(column: dict) -> Any:
    if column["type"] in ("number", "integer"):
        return 1
    return True if column["type"] == "boolean" else (column.get("values") or ["…"])[0]


def _as_python(value: Any) -> str:
    """A literal of Python, which says True where JSON says true."""
    if isinstance(value, dict):
        fields = "".join(
            f"    {json.dumps(k, ensure_ascii=False)}: {_indented(_as_python(v))},\n" for k, v in value.items()
        )
        return f"{{\n{fields}}}"
    return repr(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def _indented(text: str, spaces: int = 4) -> str:
    return text.replace("\n", "\n" + " " * spaces)
