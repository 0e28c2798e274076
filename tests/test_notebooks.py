"""Every notebook that the site offers runs as it is: offline, in an empty folder, with the installed package."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient, which runs notebooks")
nbformat = pytest.importorskip("nbformat", reason="needs nbformat, which reads notebooks")
pytest.importorskip("ipykernel", reason="needs ipykernel, which notebooks compute in")
EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

from cnnhw_docs import notebooks

CHAPTERS = {path.stem.removeprefix("plot_"): path for path in sorted(EXAMPLES.glob("plot_*.py"))}
GUARD = '''\
"""Refuses connections to other machines, and notes what was refused, and which Python ran."""
import socket
import sys
from pathlib import Path

HERE = Path(__file__).parent
with (HERE / "python").open("a") as file:
    file.write(sys.executable + "\\n")


def guarded(method):
    def call(self, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            with (HERE / "refused").open("a") as file:
                file.write(f"{address}\\n")
            raise OSError(f"this test has no network: {address}")
        return method(self, address, *rest)

    return call


socket.socket.connect = guarded(socket.socket.connect)
socket.socket.connect_ex = guarded(socket.socket.connect_ex)


def no_names(host, *rest, lookup=socket.getaddrinfo, **named):
    if host not in (None, "", "127.0.0.1", "::1", "localhost"):
        return guarded(lambda *_: None)(socket.socket(), (host,))
    return lookup(host, *rest, **named)


socket.getaddrinfo = no_names
'''


def environment(folder):
    """Return the environment of a kernel without network, data, or a cache that anybody has filled."""
    guard = folder / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name not in ("CNNHW_DATA", "MPLBACKEND")}
    proxy = "http://127.0.0.1:9"  # nobody listens there
    return kept | {
        "CNNHW_CACHE": str(folder / "cache"),
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "http_proxy": proxy,
        "https_proxy": proxy,
        "JUPYTER_DATA_DIR": str(folder / "jupyter"),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(guard), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def make(path):
    """Return the notebook of a chapter, as the site offers it."""
    return nbformat.reads(json.dumps(notebooks.of_script(path)), as_version=4)


def execute(path, folder):
    """Run a notebook in a folder of its own; return it, and the seconds it took."""
    start = time.monotonic()
    work = folder / "work"
    work.mkdir(parents=True)
    notebook = make(path)
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", allow_errors=False, resources={"metadata": {"path": str(work)}}
    )
    client.execute(env=environment(folder))
    return notebook, time.monotonic() - start


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CHAPTERS)
def test_notebook_runs_offline_as_it_is(name, tmp_path, figures):
    folder = tmp_path
    notebook, seconds = execute(CHAPTERS[name], folder)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    errors = [out for cell in code for out in cell.outputs if out.output_type == "error"]
    figures("notebooks", notebooks=1, cells=len(code), errors=len(errors), worst_seconds=round(seconds))
    assert not errors
    assert all(cell.execution_count for cell in code)
    assert any("image/png" in out.get("data", {}) for cell in code for out in cell.outputs)
    assert set((folder / "guard" / "python").read_text().split()) == {sys.executable}
    assert not (folder / "guard" / "refused").exists()
    assert not list((folder / "work").iterdir())  # reading a chapter leaves no files behind


@pytest.mark.parametrize("name", CHAPTERS)
def test_notebook_is_valid_and_needs_nothing_of_the_repository(name):
    notebook = make(CHAPTERS[name])
    nbformat.validate(notebook)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for needle in ("docs/", "cnnhw_docs", "__file__", "http://", "https://", "urlopen", "sys.path"):
        assert needle not in code, needle


@pytest.mark.slow
def test_the_guard_refuses_other_machines_and_lets_the_kernel_talk(tmp_path):
    notebook = nbformat.v4.new_notebook()
    attempts = ("socket.create_connection(('192.0.2.1', 80), 5)", "socket.create_connection(('example.org', 80), 5)")
    notebook.cells = [
        nbformat.v4.new_code_cell(f"import socket\ntry:\n    {attempt}\nexcept OSError as error:\n    print(error)")
        for attempt in attempts
    ]
    nbclient.NotebookClient(notebook, timeout=60).execute(env=environment(tmp_path))
    for cell in notebook.cells:
        assert "this test has no network" in cell.outputs[0].text
    assert len((tmp_path / "guard" / "refused").read_text().splitlines()) == 2
