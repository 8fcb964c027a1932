"""What a stranger needs to see that the log only grew: signed heads, proofs between them, and the log's files."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.views.decorators.http import require_safe

from ledger import services as ledger
from ledger import strict, tiles
from ledger.models import Checkpoint


@require_safe
def ledger_consistency(request: HttpRequest) -> HttpResponse:
    """The proof that one signed head extends another, and the line that checks it without us."""
    sizes = [request.GET.get(name, "").strip() for name in ("old", "new")]
    asked = [int(size) for size in sizes if strict.is_number(size)]
    proof = ledger.consistency(*asked) if len(asked) == 2 else None
    context = {
        "old": sizes[0],
        "new": sizes[1] or (ledger.head().size or ""),
        "is_asked": any(sizes),
        "is_found": proof is not None,
        "proof": proof,
        "command": proof is not None and _command(*asked),
        "sizes": Checkpoint.objects.order_by("-size").values_list("size", flat=True)[:20],
    }
    return render(request, "ledger/consistency.html", context)


@require_safe
def ledger_consistency_file(request: HttpRequest, old: int, new: int) -> HttpResponse:
    """The same proof as verify_receipt.py reads it: one base64 hash a line."""
    proof = ledger.consistency(old, new)
    if proof is None:
        raise Http404
    return _text(proof)


@require_safe
def ledger_checkpoint_file(request: HttpRequest, size: int) -> HttpResponse:
    """One signed head with its cosignatures."""
    checkpoint = get_object_or_404(Checkpoint.objects.prefetch_related("cosignatures"), size=size)
    signed = sorted(checkpoint.cosignatures.all(), key=lambda one: one.witness)
    return _text(checkpoint.note + "".join(one.line for one in signed))


@require_safe
def ledger_head_file(request: HttpRequest) -> HttpResponse:
    """The newest witnessed head as a signed note, for programs and for those who keep a copy."""
    head = ledger.head()
    if not head.size:
        raise Http404
    return _text(head.checkpoint)


@require_safe
def log_file(request: HttpRequest, name: str) -> FileResponse:
    """A file of the log, where no web server in front of this one serves it."""
    path = Path(settings.LOG_DIR, name)
    if not tiles.NAME.fullmatch(name) or not path.is_file():
        raise Http404
    is_text = name.startswith(tiles.CHECKPOINT)
    response = FileResponse(
        path.open("rb"), content_type="text/plain; charset=utf-8" if is_text else "application/octet-stream"
    )
    response["Cache-Control"] = "no-cache" if name == tiles.CHECKPOINT else "public, max-age=31536000, immutable"
    return response


def _text(body: str) -> HttpResponse:
    return HttpResponse(body, content_type="text/plain; charset=utf-8")


def _command(old: int, new: int) -> str:
    """Fetch the three files and check them; the key is the reader's own copy if they are wise."""
    site = f"{settings.SITE_URL}/ledger"
    return "\n".join(
        [
            *(f"curl -so {size}.txt {site}/checkpoints/{size}.txt" for size in (old, new)),
            f"curl -so proof.txt {site}/consistency/{old}/{new}.txt",
            f"python3 verify_receipt.py consistency {old}.txt {new}.txt proof.txt --log {ledger.log_vkey()}",
        ]
    )


pages = [path("ledger/consistency/", ledger_consistency, name="ledger_consistency")]
plain = [
    path("ledger/head.txt", ledger_head_file, name="ledger_head_file"),
    path("ledger/checkpoints/<int:size>.txt", ledger_checkpoint_file, name="ledger_checkpoint_file"),
    path("ledger/consistency/<int:old>/<int:new>.txt", ledger_consistency_file, name="ledger_consistency_file"),
    path("log/<path:name>", log_file, name="log_file"),
]
