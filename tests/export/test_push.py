"""`--push` against a Hub of our own on this machine, and where there is none. Nothing is uploaded without it."""

import json
import os
import subprocess
import sys
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from seaanchor.errors import SeaAnchorError
from seaanchor.export.push import check_push, contents


class Hub(BaseHTTPRequestHandler):
    """What `huggingface_hub` asks of the Hub for an upload of small files; it keeps what it is given."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.server.asked.append((self.path, body))
        token = self.headers.get("Authorization")
        if token != "Bearer right":
            return self.answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            return self.answer({"url": f"{self.address}/ORG/NAME", "name": "ORG/NAME", "id": "1"})
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in names]})
        if "/commit/" in self.path:
            rows = [json.loads(line) for line in body.splitlines()]
            files = [row["value"] for row in rows if row["key"] == "file"]
            self.server.files |= {file["path"]: b64decode(file["content"]) for file in files}
            return self.answer(
                {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.address}/ORG/NAME/commit/{'0' * 40}"}
            )
        return self.answer({"errors": [], "warnings": []})

    def do_GET(self):
        self.server.asked.append((self.path, b""))
        if self.path.startswith("/api/models/ORG/NAME"):
            return self.answer({"id": "ORG/NAME", "modelId": "ORG/NAME", "sha": "0" * 40, "siblings": []})
        return self.answer({"error": "not found"}, 404)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, data, status=200):
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.files, server.created = [], {}, None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def push(folder: Path, port: int, token: str) -> subprocess.CompletedProcess:
    """In a process of its own: the Hub's address is read when its library is imported."""
    code = (
        "from pathlib import Path\nfrom seaanchor.errors import SeaAnchorError\n"
        "from seaanchor.export.push import push\n"
        "from seaanchor.utils.log import log_to_terminal; log_to_terminal()\n"
        f"try: print('at', push(Path({str(folder)!r}), 'ORG/NAME'))\n"
        "except SeaAnchorError as error: print('error:', error)"
    )
    here = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = os.environ | here | quiet | {"HF_HOME": str(folder.parent / "home"), "NO_PROXY": "127.0.0.1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=250)


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    (made / "README.md").write_text("---\nlicense: unknown\n---\n# A card\n")
    (made / "config.json").write_text("{}")
    return made


def test_an_upload_to_a_hub(hub, folder):
    done = push(folder, hub.server_port, "right")
    assert f"at http://127.0.0.1:{hub.server_port}/ORG/NAME" in done.stdout, done.stdout + done.stderr
    assert hub.files == {name: (folder / name).read_bytes() for name in ("README.md", "config.json")}
    made = hub.created
    assert made.get("visibility") == "private" or made.get("private") is True  # by the library's version
    assert (made["name"], made["organization"]) == ("NAME", "ORG")
    assert "README.md" in done.stdout and "2 files" in done.stdout
    refused = push(folder, hub.server_port, "wrong")
    assert "ORG/NAME was not uploaded" in refused.stdout and "hf auth login" in refused.stdout


def test_without_a_hub_the_files_are_listed_and_nothing_is_uploaded(hub, run, tmp_path):
    code, out, err = run(
        "export", "--model", "seaanchor-tiny", "--output", tmp_path / "out", "--push", "ORG/NAME", "--half"
    )
    assert code == 2 and "nothing was uploaded" in err and f"hf upload ORG/NAME {tmp_path / 'out'}" in err
    files = contents(tmp_path / "out")
    assert {"README.md", "open_clip_model.safetensors", "open_clip_config.json"} <= set(files)
    shown = out + err
    assert all(name in shown and f"{size:,} bytes" in shown for name, size in files.items())
    assert not hub.asked


@pytest.mark.parametrize("name", ["NAME", "a/b/c", "ORG/NA ME", "--x/y", ""])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(SeaAnchorError, match="--push"):
        check_push(name, tmp_path / "new")
    check_push("ORG/NAME", tmp_path / "new")


def test_a_folder_in_use_is_refused(folder):
    with pytest.raises(SeaAnchorError, match="is not empty"):
        check_push("ORG/NAME", folder)
