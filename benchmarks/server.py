"""Many streaming clients against a real `loqal serve`, some of which leave in the middle.

    python benchmarks/server.py [MODEL] --seconds 600 --clients 64 [--keep always]

Every answer has to be the one that was given alone, as far as it was read. Afterwards nothing may be running, and the
bytes of the process must have stayed flat. At the end more requests come than there is room for, which are refused
with Retry-After. Exits with 1 when any of this fails. Clients and server share the processors of one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import record

_NUM_CASES = 48
_LEAVES = 0.25  # share of clients that do not read to the end
_FLAT = 0.05  # growth of the resident bytes after the first quarter of the time
_SAMPLE_S = 2.0
_BURST = 400
_CACHE_BYTES = 64 << 20  # full soon, so that growth is seen
_RECEIPT = "Receipt to JSON:\n{} Milk {}.20\n{} Bread 2.50\nTotal {}.90"


@dataclass
class Load:
    """What happened."""

    first_token_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    num_events: int = 0
    num_complete: int = 0
    num_left: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    until: float = 0.0
    paused_s: float = 0.0
    paused_until: float = 0.0


class Server:
    """A server process on a free port."""

    def __init__(self, model: str, log: Path) -> None:
        command = [sys.executable, "-m", "loqal", "serve", model, "--port", "0", "--max-requests", "128"]
        command += ["--cache-bytes", str(_CACHE_BYTES)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log.open("w"), text=True)
        assert self.process.stdout is not None
        self.url, _, self.name = self.process.stdout.readline().strip().partition("  ")
        self.port = int(self.url.rpartition(":")[2])

    def resident_bytes(self) -> int:
        """Of the process now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def metrics(self) -> str:
        """The page for Prometheus."""
        with urllib.request.urlopen(f"{self.url}/metrics") as page:
            return str(page.read().decode())

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        return self.process.wait(60)


def cases(model: str, dice: random.Random) -> list[dict[str, Any]]:
    """Requests of many kinds: greedy and drawn, short and long, with beginnings in common or not."""
    found = []
    for index in range(_NUM_CASES):
        numbers = [dice.randrange(1, 9) for _ in range(4)]
        turns = [{"role": "user", "content": _RECEIPT.format(*numbers)}]
        if index % 3 == 0:
            lines = "\n".join(
                f"key{dice.randrange(1000)}: {dice.randrange(1000)}" for _ in range(dice.randrange(5, 60))
            )
            turns = [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": lines + "\n\nWhat is 3 + 4?"},
            ]
        body: dict[str, Any] = {"model": model, "messages": turns, "stream": True, "max_tokens": dice.randrange(8, 120)}
        body |= {"temperature": 0} if index % 2 else {"temperature": 1.5, "seed": index}
        if index % 5 == 0:
            body["ignore_eos"] = True
        found.append(body)
    return found


async def ask(port: int, body: dict[str, Any], *, leave_after: int | None = None) -> tuple[int, str, float, int]:
    """Status, text, seconds to the first piece of it, and how many pieces were read."""
    data = json.dumps(body).encode()
    started, first_s, pieces = time.perf_counter(), 0.0, []
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\nConnection: close\r\n\r\n" + data)
        status = int((await reader.readline()).split()[1])
        async for line in reader:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            delta = event["choices"][0]["delta"]
            if text := delta.get("content", "") + delta.get("reasoning", ""):
                first_s = first_s or time.perf_counter() - started
                pieces.append(text)
            if leave_after is not None and len(pieces) >= leave_after:
                break
        return status, "".join(pieces), first_s, len(pieces)
    finally:
        writer.close()


async def client(server: Server, wanted: list[tuple[dict[str, Any], str]], seed: int, load: Load) -> None:
    """Somebody who asks, and sometimes leaves."""
    dice = random.Random(seed)
    while time.perf_counter() < load.until:
        body, alone = dice.choice(wanted)
        leaves = dice.randrange(0, 20) if dice.random() < _LEAVES else None
        started = time.perf_counter()
        try:
            status, text, first_s, num_pieces = await ask(server.port, body, leave_after=leaves)
        except Exception as error:
            load.errors.append(repr(error))
            continue
        load.num_events += num_pieces
        if status != 200:
            load.errors.append(str(status))
        elif (leaves is None and text != alone) or not alone.startswith(text):
            load.wrong.append(text)
        load.num_left += leaves is not None
        load.num_complete += leaves is None
        if started <= load.paused_until:
            continue  # its times say nothing
        if first_s:
            load.first_token_s.append(first_s)
        if leaves is None:
            load.whole_s.append(time.perf_counter() - started)


async def watch(server: Server, load: Load) -> None:
    """Sample the resident bytes, and see when all was put aside for a while, as for another measurement."""
    last = time.perf_counter()
    while last < load.until:
        load.resident.append(server.resident_bytes())
        await asyncio.sleep(_SAMPLE_S)
        now = time.perf_counter()
        if now - last > 2 * _SAMPLE_S:
            load.paused_s, load.paused_until, load.until = load.paused_s + now - last, now, load.until + now - last
        last = now


async def run(server: Server, num_clients: int, seconds: float) -> tuple[Load, int, int]:
    """The load, how many of a burst were refused, and how many of these were told when to come again."""
    load = Load()
    asked = cases(server.name, random.Random(1))
    wanted = [(body, (await ask(server.port, body))[1]) for body in asked]
    load.until = time.perf_counter() + seconds
    people = [client(server, wanted, seed, load) for seed in range(num_clients)]
    await asyncio.gather(watch(server, load), *people)
    burst = await asyncio.gather(*(ask(server.port, wanted[0][0]) for _ in range(_BURST)), return_exceptions=True)
    refused = sum(isinstance(one, tuple) and one[0] == 429 for one in burst)
    answered = sum(isinstance(one, tuple) and one[0] == 200 for one in burst)
    load.errors += [repr(one) for one in burst if isinstance(one, BaseException)][:5]
    return load, refused, answered


def idle(server: Server) -> bool:
    """Whether nothing is running any more, within some seconds."""
    for _ in range(50):
        page = server.metrics()
        if "loqal_running_replies 0.0" in page and f'loqal_engine{{model="{server.name}",name="active"}} 0.0' in page:
            return True
        time.sleep(0.2)
    return False


def growth(resident: list[int]) -> float:
    """Of the resident bytes from the first quarter's most to the last quarter's least; 0 when they fell."""
    quarter = max(1, len(resident) // 4)
    return max(0.0, min(resident[-quarter:]) / max(resident[:quarter]) - 1)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--keep", choices=("if quiet", "always", "never"), default="if quiet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        server = Server(options.model, log)
        others = record.OtherPrograms([server.process.pid])
        started = time.perf_counter()
        load, refused, answered = asyncio.run(run(server, options.clients, options.seconds))
        seconds, share = time.perf_counter() - started, others.share()
        is_idle, code = idle(server), server.end()
        tracebacks = log.read_text().count("Traceback")
    first = sorted(load.first_token_s)
    result = {
        "clients": options.clients,
        "seconds": round(options.seconds),
        "answers": load.num_complete,
        "left": load.num_left,
        "answers_per_s": round(load.num_complete / options.seconds, 2),
        "pieces_per_s": round(load.num_events / options.seconds, 1),
        "first_token_p50_ms": round(statistics.median(first) * 1e3, 1),
        "first_token_p99_ms": round(first[int(len(first) * 0.99)] * 1e3, 1),
        "answer_p50_ms": round(statistics.median(load.whole_s) * 1e3, 1),
        "resident_growth": round(growth(load.resident), 4),
        "resident_mb": [round(one / 1e6) for one in load.resident[:: max(1, len(load.resident) // 10)]],
        "burst": {"sent": _BURST, "answered": answered, "refused_429": refused},
        "wrong_answers": len(load.wrong),
        "errors": len(load.errors),
    }
    print(json.dumps(result, indent=1), f"\n{seconds:.0f} s, others took {share:.0%} of the processors")
    failed = load.wrong[:3] + load.errors[:3] + (["something still runs"] if not is_idle else [])
    failed += [f"exit code {code}"] * (code != 0) + [f"{tracebacks} tracebacks"] * (tracebacks > 0)
    failed += ["bytes grow"] * (result["resident_growth"] > _FLAT) + ["no 429"] * (refused == 0)
    for one in failed:
        print(f"FAILED: {one}")
    if not failed:
        record.save("server", f"{server.name}, {options.clients} clients", result, others=share, keep=options.keep)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
