"""`manage.py rebuild OWNER/MODEL`: fit a model version again from its sealed Datanet versions, and compare the hashes."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError

from attribution import bundles, fitting, modelclient
from attribution.models import Artifact
from marketplace.models import ModelVersion
from marketplace.views.explanations import training_failure


class Command(BaseCommand):
    help = "Fit a model version again from its sealed Datanet versions; exit 1 if its artifact has another hash."

    def add_arguments(self, parser) -> None:
        parser.add_argument("model", help="owner/slug for the newest version, or owner/slug@v2")
        parser.add_argument("--restore", action="store_true", help="write the files, if the hash is the same")

    def handle(self, *args, model: str, restore: bool, **options) -> None:
        version = _version(model)
        if version.training_run is None:
            raise CommandError(f"{version.path} was shaped by no Datanet, so there is nothing to fit it from.")
        stored = Artifact.objects.get(pk=version.artifact_sha256)
        try:
            bundle, files = fitting.rebuild(stored, settings=version.training_run.settings)
        except fitting.CannotFit as problem:
            raise CommandError(
                f"It cannot be fitted again: {training_failure(problem.code, problem.params)}"
            ) from problem
        except modelclient.ModelsUnavailable as problem:
            raise CommandError(f"{problem} It is needed for the texts; try again.") from problem
        if bundle.sha256 != stored.pk:
            raise CommandError(f"{version.path} gives {bundle.sha256}, but its version names {stored.pk}.")
        if restore:
            bundles.save(files, bundle.sha256)
        self.stdout.write(
            f"{version.path}: {bundle.sha256} is what is stored{', and its files are back' if restore else ''}."
        )


def _version(path: str) -> ModelVersion:
    name, _at, number = path.partition("@v")
    owner, _slash, slug = name.partition("/")
    found = ModelVersion.objects.filter(model__owner__username=owner, model__slug=slug).order_by("number")
    if number:
        found = found.filter(number=int(number) if number.isdecimal() else 0)
    version = found.select_related("model__owner", "training_run").last()
    if version is None:
        raise CommandError(f"There is no model {path}, or it has no such version.")
    return version
