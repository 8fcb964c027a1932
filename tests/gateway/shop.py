"""A small shop to call: Dan buys from Erin's models on Alice's and Bob's records. Builders are plain functions."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import numpy as np

from accounts.models import User
from attribution import bundles, features
from attribution.engines import ENGINES, spans
from attribution.models import Artifact as StoredArtifact
from datanets import services as datanets
from datanets.models import Version
from ledger import chart
from ledger import services as ledger
from marketplace import keys, listings, rules, testmoney
from marketplace.models import ListedModel, ModelVersion, TrainingRun

OPEN = 10**9
CALL_NANO = 1_000_003  # of classify: not divisible by anything, so that remainders show
ROW = {"radius": 14.2, "texture": 20.1}
COLUMNS = [
    {"name": "radius", "type": "number", "required": True},
    {"name": "texture", "type": "number", "required": True},
    {"name": "diagnosis", "type": "category", "required": True},
]


def person(name: str) -> User:
    found = User.objects.filter(username=name).first()
    return found or User.objects.create_user(username=name, email=f"{name}@example.org")


def make_key(buyer: User, **limits) -> str:
    return keys.create(owner=buyer, name="test", **limits)[1]


def fund(books, buyer: User, amount_nano: int) -> None:
    books.deposit(chart.wallet(buyer.pk), amount_nano)


def tumour_artifact(engine: str = "linear", task: str = "classification", rows: int = 60):
    """A real artifact, fitted with the engine, and its serving part."""
    place = np.arange(rows)
    values = [{"radius": 10 + (i * 7919 % 9973) / 977, "texture": 15 + (i * 6133 % 9941) / 871} for i in place.tolist()]
    schema = {"columns": COLUMNS, "label": "diagnosis", "label_type": "number" if task == "regression" else "category"}
    spec = features.fit_spec(values, schema, "tabular")
    matrix = features.transform(spec, values)
    targets = (
        matrix[:, 0].tolist() if task == "regression" else [("benign", "malignant")[i % 2] for i in place.tolist()]
    )
    options = {"standardise": True} | ({"task": task} if engine == "linear" else {})
    artifact = ENGINES[engine].fit(matrix, targets, np.ones(rows), options)
    serving = {
        "kind": "tabular",
        "versions": [],
        "records": list(range(1, rows + 1)),
        "identities": [f"{i:064x}" for i in range(1, rows + 1)],
        "spec": spec,
        "gated": [],
        "shares": [1] * rows,
    }
    return artifact, serving


def connected_artifact():
    artifact = spans.fit([], None, np.zeros(0), {})
    serving = {"kind": "text", "versions": [], "records": [], "identities": [], "spec": None, "gated": [], "shares": []}
    return artifact, serving


def add_version(model: ListedModel, artifact, serving, *, datanet_versions=(), metrics=None) -> ModelVersion:
    """Store an artifact as the next version of a model."""
    bundle, files = bundles.pack(artifact, serving)
    size_bytes = bundles.save(files, bundle.sha256)
    stored, _ = StoredArtifact.objects.get_or_create(
        sha256=bundle.sha256,
        defaults={
            "engine": artifact.engine,
            "settings": artifact.settings,
            "record_count": len(serving["records"]),
            "size_bytes": size_bytes,
            "metrics": metrics or {},
            "method": artifact.settings["method"],
        },
    )
    run = TrainingRun.objects.create(
        model=model,
        requested_by=model.owner,
        split_rule=rules.training_rule(),
        fee_nano=0,
        posting_id=ledger.new_id(),
        status="done",
    )
    run.versions.set(datanet_versions)
    return ModelVersion.objects.create(
        model=model, number=model.versions.count() + 1, artifact_sha256=stored.sha256, training_run=run
    )


def frozen_datanet(name: str = "Tumours", *, kind: str = "tabular") -> Version:
    owner = person("carol")
    datanet = datanets.create_datanet(
        owner=owner,
        name=name,
        purpose="Tests",
        kind=kind,
        licence="CC-BY-4.0",
        rights_statement="I may.",
        schema={"columns": COLUMNS, "label": "diagnosis", "label_type": "category"} if kind == "tabular" else None,
    )
    return Version.objects.create(
        datanet=datanet,
        number=1,
        root="00" * 32,
        leader_map_sha256="00" * 32,
        record_count=60,
        leader_count=60,
        added_count=60,
        removed_count=0,
        manifest_key=f"versions/{uuid.uuid4()}/manifest",
        created_by=owner,
    )


def listed(
    model: ListedModel, *, call: int = 0, tokens_in: int = 0, tokens_out: int = 0, abstain: int = 0
) -> ListedModel:
    listings.set_prices(
        model,
        by=model.owner,
        price_call_nano=call,
        price_in_nano=tokens_in,
        price_out_nano=tokens_out,
        price_abstain_nano=abstain,
    )
    return listings.list_model(model, by=model.owner)


def linear_model(slug: str = "tumours", *, call: int = CALL_NANO, datanet_versions=(), **fields) -> ListedModel:
    model = listings.create_model(
        owner=person("erin"), name=slug, slug=slug, purpose="Tells tumours apart", engine="linear", **fields
    )
    add_version(model, *tumour_artifact(), datanet_versions=datanet_versions)
    return listed(model, call=call)


def connected_model(
    behaviour: str,
    upstream_url: str,
    *,
    upstream_model: str = "",
    key: str = "upstream-secret",
    call: int = 1000,
    tokens_in: int = 100,
    tokens_out: int = 1000,
) -> ListedModel:
    """A model answered elsewhere. The fake server behaves as the name of its model says."""
    model = listings.create_model(
        owner=person("erin"),
        name=behaviour,
        slug=behaviour,
        purpose="Chats",
        engine="connected",
        upstream_url=upstream_url,
        upstream_model=upstream_model or behaviour,
        upstream_key=key,
    )
    add_version(model, *connected_artifact())
    return listed(model, call=call, tokens_in=tokens_in, tokens_out=tokens_out)


@dataclass
class Shop:
    """What the tests of a module share: the models. Each test makes its own buyers."""

    books: object
    upstream: object
    models: dict[str, ListedModel] = field(default_factory=dict)

    def buyer(self, name: str, amount_nano: int = 0, **limits) -> tuple[User, str]:
        """A buyer with money and a key."""
        buyer = person(name)
        if amount_nano:
            fund(self.books, buyer, amount_nano)
        return buyer, make_key(buyer, **limits)

    def tester(self, name: str, *, is_granted: bool = True, **limits) -> tuple[User, str]:
        """A person with today's test money and a test key."""
        tester = person(name)
        if is_granted:
            testmoney.top_up(tester)
            self.books.fold()
        return tester, make_key(tester, is_test=True, **limits)

    def balance_nano(self, buyer: User) -> int:
        """What is left once everything is folded, leases included."""
        self.books.fold()
        found = ledger.balance(chart.wallet(buyer.pk))
        return found.credited_nano - found.debited_nano
