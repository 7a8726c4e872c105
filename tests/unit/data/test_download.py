"""Archives over a local web server and from folders: resumed, tried again, checked, or refused."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest

from contrastdp.data import download
from contrastdp.data.download import fetch_archive, read_origin
from contrastdp.errors import InputError

FILE = "images.gz"
# Random bytes do not pack, so the archive spans several blocks.
CONTENT = gzip.compress(
    b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256)) * 24, 0, mtime=0
)
SIZE = len(CONTENT)
OTHER = gzip.compress(b"a subset", mtime=0)
ALL = [f".{FILE}.origin", FILE, f"{FILE}.json"]  # the second copy of its origin, too
PAGE = b"<!DOCTYPE html><html>please log in</html>"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def md5(content):
    return hashlib.md5(content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as `server.pages` says: path -> function of the handler."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        # Packed on the way, a file would have another checksum.
        assert self.headers.get("Accept-Encoding") == "identity"
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
        else:
            page(self)

    def log_message(self, *_):
        pass

    def give(self, content, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


def whole(content=CONTENT, **headers):
    """A server that knows no ranges."""
    return lambda handler: handler.give(content, **headers)


def ranged(content=CONTENT, most=None):
    """A server that knows ranges and, with `most`, breaks off after so many bytes."""

    def page(handler):
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if start >= len(content):
            handler.send_error(416)
            return
        given = {"length": len(content) - start}
        if asked:
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            given |= {"status": 206, "Content_Range": place}
        handler.give(content[start : start + most if most else None], **given)

    return page


def in_turn(*pages):
    """The first page first, then the second, and the last from then on."""
    waiting = list(pages)
    return lambda handler: (waiting.pop(0) if len(waiting) > 1 else waiting[0])(handler)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.asked = {}, []
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch):
    """Seconds waited between tries, without waiting."""
    found = []
    monkeypatch.setattr(download.time, "sleep", found.append)
    return found


@pytest.fixture
def fetch(tmp_path, server, waits):
    """Fetch CONTENT from the paths of the server; return path and record."""

    def run(*paths, digests=None, size=SIZE, mirror=None):
        archive = {
            "file": FILE,
            "addresses": [f"{server.address}{path}" for path in paths] or ["http://127.0.0.1:9/x"],
            "bytes": size,
            **(digests or {"md5": md5(CONTENT), "sha256": sha256(CONTENT)}),
        }
        path = tmp_path / "got" / FILE
        origin = tmp_path / "got" / f"{FILE}.json"
        fetch_archive(path, origin, dataset="set", archive=archive, mirror=mirror, attempts=3)
        return path, json.loads(origin.read_text())

    return run


def left(tmp_path):
    """Names of the files in the folder of the archive."""
    folder = tmp_path / "got"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---------------------------------------------------------------- the canonical addresses
def test_fetches_and_records(tmp_path, server, fetch):
    server.pages["/a.gz"] = whole()
    path, origin = fetch("/a.gz", "/b.gz")
    assert path.read_bytes() == CONTENT
    assert origin == {
        "file": FILE,
        "address": f"{server.address}/a.gz",
        "sha256": sha256(CONTENT),
        "canonical": True,
    }
    assert server.asked == [("/a.gz", None)]
    assert left(tmp_path) == ALL


def test_keeps_a_file_that_is_right(server, fetch):
    server.pages["/a.gz"] = whole()
    before = fetch("/a.gz")
    (before[0].with_name(f"{FILE}.json")).unlink()  # as Snakemake does before it runs again
    assert fetch("/a.gz") == before
    assert len(server.asked) == 1


def test_replaces_a_file_that_is_wrong(server, fetch):
    server.pages["/a.gz"] = whole()
    path, _ = fetch("/a.gz")
    path.write_bytes(OTHER)
    assert fetch("/a.gz")[0].read_bytes() == CONTENT


def test_a_file_laid_there_by_hand_needs_no_network(tmp_path, server, fetch):
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / FILE).write_bytes(CONTENT)
    _, origin = fetch()
    assert origin["canonical"] and origin["address"] == "found in the results folder"
    assert server.asked == []


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (lambda handler: handler.send_error(404), "HTTP error 404"),
        (whole(PAGE, Content_Type="text/html; charset=utf-8"), "is a web page"),
        (whole(PAGE, Content_Type="application/gzip"), "is a web page"),
        (whole(b"PK\3\4"), "is no such archive"),
        (whole(OTHER), f"stopped after {len(OTHER)} of|expected {sha256(CONTENT)}|{md5(OTHER)}"),
        (whole(CONTENT + b"x"), f"has {SIZE + 1} bytes"),
        (whole(CONTENT[:-1] + b"x"), f"md5 is [0-9a-f]{{32}}, expected {md5(CONTENT)}"),
        (lambda handler: handler.send_error(503), "503.*3 times in a row"),
    ],
)
def test_second_address(tmp_path, server, fetch, first, reason):
    server.pages |= {"/a.gz": first, "/b.gz": whole()}
    assert fetch("/a.gz", "/b.gz")[1]["address"].endswith("/b.gz")
    (tmp_path / "got" / FILE).unlink()
    with pytest.raises(InputError, match=reason) as caught:
        fetch("/a.gz", "/nowhere.gz")
    said = str(caught.value)
    assert said.startswith(f"{FILE}: no address gave this archive") and "\n" not in said
    assert "/a.gz: " in said and "/nowhere.gz: HTTP error 404" in said
    assert FILE not in left(tmp_path)


def test_no_connection(fetch, waits):
    with pytest.raises(InputError, match=r"127.0.0.1:9/x: .*3 times in a row"):
        fetch()
    assert waits == [2, 4]


def test_tries_again_after_an_error_of_the_server(server, fetch, waits):
    error = functools.partial(Handler.send_error, code=503)
    server.pages["/a.gz"] = in_turn(error, error, whole())
    assert fetch("/a.gz")[0].read_bytes() == CONTENT
    assert waits == [2, 4]


def test_goes_on_where_it_stopped(server, fetch):
    # Each answer breaks off after 30,000 bytes: more answers than tries, for each brings some.
    server.pages["/a.gz"] = ranged(most=30_000)
    assert fetch("/a.gz")[0].read_bytes() == CONTENT
    starts = [asked for _, asked in server.asked]
    assert starts == [None, *(f"bytes={start}-" for start in range(30_000, SIZE, 30_000))]
    assert len(starts) > 4


def test_goes_on_after_a_run_that_was_killed(tmp_path, server, fetch):
    server.pages["/a.gz"] = in_turn(whole(CONTENT[:50_000], length=SIZE), whole(b"no"))
    with pytest.raises(InputError):
        fetch("/a.gz")
    (part,) = left(tmp_path)
    assert part.endswith(".part") and part.startswith(".")
    server.pages["/b.gz"] = ranged()
    assert fetch("/b.gz")[0].read_bytes() == CONTENT
    assert server.asked[-1] == ("/b.gz", "bytes=50000-")
    assert left(tmp_path) == ALL


def broken_off(tmp_path, server, fetch, content):
    """Leave a .part file of that content behind."""
    server.pages["/off.gz"] = whole(CONTENT[:9], length=SIZE)
    with pytest.raises(InputError, match="stopped after 9 of"):
        fetch("/off.gz")
    (part,) = left(tmp_path)
    (tmp_path / "got" / part).write_bytes(content)
    server.asked.clear()


@pytest.mark.parametrize(
    ("beginning", "page", "asked"),
    [
        (CONTENT[:50], whole(), ["bytes=50-"]),  # starts over, unasked
        (bytes(50), ranged(), ["bytes=50-", None]),  # the beginning was of another file
        (CONTENT, ranged(), []),  # killed before the file got its name
        (CONTENT + b"x", ranged(), [f"bytes={SIZE + 1}-", None]),
    ],
)
def test_whatever_an_earlier_run_left(tmp_path, server, fetch, beginning, page, asked):
    broken_off(tmp_path, server, fetch, beginning)
    server.pages["/a.gz"] = page
    assert fetch("/a.gz")[0].read_bytes() == CONTENT
    assert [start for _, start in server.asked] == asked


@pytest.mark.parametrize("given", [{}, {"status": 206, "Content_Range": f"bytes 50-{SIZE - 1}/*"}])
def test_a_page_does_not_spoil_what_has_come(tmp_path, server, fetch, given):
    broken_off(tmp_path, server, fetch, CONTENT[:50])
    server.pages |= {"/a.gz": whole(PAGE, Content_Type="text/html", **given), "/b.gz": ranged()}
    assert fetch("/a.gz", "/b.gz")[0].read_bytes() == CONTENT
    assert server.asked[-1] == ("/b.gz", "bytes=50-")


def test_refuses_another_range_than_asked(tmp_path, server, fetch):
    broken_off(tmp_path, server, fetch, CONTENT[:50])
    server.pages["/a.gz"] = whole(CONTENT, status=206, Content_Range="bytes 0-9/10")
    with pytest.raises(InputError, match="gives the range bytes 0-9/10"):
        fetch("/a.gz")


def test_stops_an_answer_without_end(monkeypatch, server, fetch):
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()  # no Content-Length: until the connection closes
        handler.wfile.write(CONTENT)
        with contextlib.suppress(ConnectionError):
            for block in range(2000):
                handler.wfile.write(bytes(2**16))
                sent.append(block)

    monkeypatch.setattr(download, "LARGEST", SIZE + 100)
    server.pages["/a.gz"] = endless
    with pytest.raises(InputError, match=f"has more than the {SIZE + 100} bytes"):
        fetch("/a.gz", size=None)
    assert len(sent) < 2000


def test_needs_a_checksum(tmp_path):
    with pytest.raises(InputError, match="has no checksum"):
        fetch_archive(
            tmp_path / FILE,
            tmp_path / "o.json",
            dataset="set",
            archive={"file": FILE, "addresses": ["http://127.0.0.1:9/x"]},
        )


@pytest.mark.parametrize("kinds", [["md5"], ["sha256"], ["md5", "sha256"]])
@pytest.mark.parametrize("wrong", [True, False])
def test_every_digest_given_counts(server, fetch, kinds, wrong):
    server.pages["/a.gz"] = whole()
    right = {"md5": md5(CONTENT), "sha256": sha256(CONTENT)}
    digests = {kind: right[kind] for kind in kinds}
    if wrong:
        digests[kinds[-1]] = {"md5": md5(OTHER), "sha256": sha256(OTHER)}[kinds[-1]]
        with pytest.raises(InputError, match=f"{kinds[-1]} is {right[kinds[-1]]}, expected"):
            fetch("/a.gz", digests=digests)
    else:
        assert fetch("/a.gz", digests=digests)[1]["canonical"]


# ---------------------------------------------------------------- mirrors
@pytest.fixture(params=["folder", "web"])
def put(request, tmp_path, server):
    """A mirror: its address, and a function that puts a file on it."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    def write(name, content):
        if request.param == "web":
            server.pages[f"/mirror/{name}"] = whole(content)
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    write.address = f"{server.address}/mirror/" if request.param == "web" else str(folder)
    write.shown = f"{server.address}/mirror/" if request.param == "web" else "mirror:"
    return write


@pytest.mark.parametrize("name", [FILE, f"set/{FILE}"])
def test_mirror_of_the_canonical_archive(server, fetch, put, name):
    put(name, CONTENT)
    server.pages["/a.gz"] = whole()
    path, origin = fetch("/a.gz", mirror={"address": put.address})
    assert path.read_bytes() == CONTENT
    assert origin["canonical"] and origin["address"] == f"{put.shown}{name}"
    assert "/a.gz" not in [asked for asked, _ in server.asked]


@pytest.mark.parametrize("listed", ["entry", "list", "list of paths", "none for this file"])
def test_mirror_with_another_archive(server, fetch, put, listed):
    put(f"set/{FILE}", OTHER)
    lines = f"# of the mirror\n\n{sha256(b'x')}  other.gz\n"
    checksums = {"entry": {FILE: sha256(OTHER)}}.get(listed, "SUMS")
    lines += {"list": f"{sha256(OTHER)} *{FILE}\n"}.get(listed, "")
    lines += {"list of paths": f"{sha256(OTHER)}  ./set/{FILE}\n"}.get(listed, "")
    put("SUMS", lines.encode())
    server.pages["/a.gz"] = whole()
    mirror = {"address": put.address, "checksums": checksums}
    if listed == "none for this file":
        with pytest.raises(InputError, match=f"expected {md5(CONTENT)}|stopped after"):
            fetch("/a.gz", mirror=mirror)
    else:
        path, origin = fetch("/a.gz", mirror=mirror)
        assert path.read_bytes() == OTHER
        assert origin["canonical"] is False and origin["sha256"] == sha256(OTHER)
    assert "/a.gz" not in [asked for asked, _ in server.asked]


def test_mirror_that_lists_the_canonical_archive(fetch, put):
    put(FILE, CONTENT)
    mirror = {"address": put.address, "checksums": {f"set/{FILE}": sha256(CONTENT)}}
    assert fetch(mirror=mirror)[1]["canonical"] is True


def test_canonical_by_every_digest(fetch, put):
    put(FILE, CONTENT)
    digests = {"md5": md5(CONTENT), "sha256": sha256(OTHER)}
    mirror = {"address": put.address, "checksums": {FILE: sha256(CONTENT)}}
    assert fetch(mirror=mirror, digests=digests)[1]["canonical"] is False


def test_mirror_whose_own_checksum_fails(tmp_path, fetch, put):
    put(FILE, OTHER)
    mirror = {"address": put.address, "checksums": {FILE: sha256(b"x")}}
    with pytest.raises(InputError, match=f"sha256 is {sha256(OTHER)}, expected {sha256(b'x')}"):
        fetch(mirror=mirror)
    assert left(tmp_path) == []


def test_leaving_a_mirror_fetches_the_canonical_archive(server, fetch, put):
    put(FILE, OTHER)
    server.pages["/a.gz"] = whole()
    mirror = {"address": put.address, "checksums": {FILE: sha256(OTHER)}}
    assert not fetch("/a.gz", mirror=mirror)[1]["canonical"]
    assert fetch("/a.gz")[1]["canonical"]


def test_mirror_without_the_file(fetch, put):
    with pytest.raises(InputError, match=rf"set/{FILE}: .*; .*mirror/{FILE}: ") as caught:
        fetch(mirror={"address": put.address})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"no checksum\n", b"\xff\xfe", None])
def test_mirror_whose_list_cannot_be_read(fetch, put, content):
    if content is not None:
        put("SUMS", content)
    with pytest.raises(InputError, match=r"SUMS.*mirror") as caught:
        fetch(mirror={"address": put.address, "checksums": "SUMS"})
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- records
def test_origin_of_another_file(server, fetch):
    server.pages["/a.gz"] = whole()
    path, origin = fetch("/a.gz")
    record = Path(f"{path}.json")
    assert read_origin(path, record) == origin
    path.write_bytes(OTHER)
    with pytest.raises(InputError, match=f"sha256 is {sha256(OTHER)}"):
        read_origin(path, record)
    record.write_text("[]")
    with pytest.raises(InputError, match=r"delete .*json alone and run again"):
        read_origin(path, record)
