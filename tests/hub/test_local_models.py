"""Models as Ollama, LM Studio, llama.cpp and the hub's cache lay them out are found, run in place, and left alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import loqal
from hub_emulator import COMMIT, Emulator, Repo, etag_of
from hub_puller import POLICY, file_bytes
from loqal.cli.main import main
from loqal.errors import CheckpointError, RequestError
from loqal.hub import cache, find, local_models, provenance, remove, verify
from loqal.hub.names import Wanted
from loqal.hub.pull import pull, select
from loqal.performance import memory_report
from loqal.runtime import open_model
from loqal.testing.checkpoints import random_tensors, tiny_config, write_gguf, write_safetensors
from loqal.weights.load import open_checkpoint

DEMO = open_model.locate()
REPO = "maker/Qwen3.5-GGUF"


def lay_out_ollama(home: Path) -> None:
    digest = hashlib.sha256(DEMO.read_bytes()).hexdigest()
    root = home / ".ollama/models"
    (root / "blobs").mkdir(parents=True)
    shutil.copy(DEMO, root / f"blobs/sha256-{digest}")
    config = json.dumps({"file_type": "Q8_0"}).encode()
    config_digest = hashlib.sha256(config).hexdigest()
    (root / f"blobs/sha256-{config_digest}").write_bytes(config)
    manifest = root / "manifests/registry.ollama.ai/library/qwen3.5/tiny"
    manifest.parent.mkdir(parents=True)
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}]
    manifest.write_text(json.dumps({"config": {"digest": f"sha256:{config_digest}"}, "layers": layers}))
    (manifest.parent / "broken").write_text("{")


def lay_out_lm_studio(home: Path) -> None:
    folder = home / ".lmstudio/models/maker/Qwen3.5-demo-GGUF"
    folder.mkdir(parents=True)
    shutil.copy(DEMO, folder / "Qwen3.5-demo-Q8_0.gguf")
    (folder / "other.gguf").write_bytes(b"no model")


def lay_out_llama_cpp(home: Path) -> None:
    folder = home / ".cache/llama.cpp"
    folder.mkdir(parents=True)
    shutil.copy(DEMO, folder / "maker_Qwen3.5-demo-GGUF_Qwen3.5-demo-Q8_0.gguf")


def lay_out_hub(home: Path, repo: str = REPO) -> Path:
    etag = hashlib.sha256(DEMO.read_bytes()).hexdigest()
    folder = home / "hub" / ("models--" + repo.replace("/", "--"))
    (folder / "blobs").mkdir(parents=True)
    shutil.copy(DEMO, folder / "blobs" / etag)
    shown = folder / "snapshots" / COMMIT / "Qwen3.5-demo-UD-Q4_K_XL.gguf"
    shown.parent.mkdir(parents=True)
    shown.symlink_to(os.path.relpath(folder / "blobs" / etag, shown.parent))
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT)
    return shown


LAYOUTS = {
    "ollama/qwen3.5:tiny": lay_out_ollama,
    "lmstudio/maker/Qwen3.5-demo-GGUF:Q8_0": lay_out_lm_studio,
    "llama.cpp/maker_Qwen3.5-demo-GGUF_Qwen3.5-demo-Q8_0": lay_out_llama_cpp,
    f"{REPO}:UD-Q4_K_XL": lay_out_hub,
}


def disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() or path.is_symlink())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_model_of_another_tool_runs_where_it_lies(home: Path, name: str) -> None:
    LAYOUTS[name](home)
    before = disk_bytes(home)
    assert [model.name for model in local_models.all_models()] == [name]
    with loqal.load(name, context_len=256) as model:
        reply = model.chat([{"role": "user", "content": "Hello"}], loqal.SamplingParams(max_tokens=4, temperature=0))
        assert reply.usage.completion_tokens > 0
    assert disk_bytes(home) - before <= before // 100


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_import_is_a_link(home: Path, name: str) -> None:
    LAYOUTS[name](home)
    before = disk_bytes(home)
    path = local_models.all_models()[0].path
    model = local_models.import_model(path, "mine")
    assert model.origin == "imported" and disk_bytes(home) - before <= 16384  # notes and links, whatever the size
    with loqal.load("mine", context_len=256) as loaded:
        assert loaded.generate([1, 2, 3], loqal.SamplingParams(max_tokens=2)).usage.completion_tokens > 0
    assert remove.remove(model) and path.exists()
    assert "mine" not in [model.name for model in local_models.all_models()]


def test_folders_and_split_sets_are_imported_whole(home: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    folder = write_safetensors(home / "original", config, tensors)
    model = local_models.import_model(folder)
    assert model.name == "original" and model.quant == "safetensors"
    assert open_checkpoint(open_model.find("original").path).format == "safetensors"
    vision = tiny_config(vision=True)
    split = home / "split"
    write_gguf(split / "tiny-Q8_0.gguf", vision, random_tensors(vision), mmproj=split / "mmproj-F16.gguf")
    write_gguf(split / "tiny-Q4_0.gguf", vision, random_tensors(vision))
    found = local_models.import_model(split / "tiny-Q8_0.gguf", "seeing")
    seeing = open_model.find("seeing")
    assert found.mmproj is not None and open_checkpoint(seeing.path, mmproj=seeing.mmproj).config.vision is not None
    with pytest.raises(RequestError, match="already"):
        local_models.import_model(folder)
    with pytest.raises(RequestError, match="is not a valid name"):
        local_models.import_model(folder, "../x")
    (home / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no model"):
        local_models.import_model(home / "empty")
    assert not (home / "loqal/models/empty").exists()


def test_a_name_of_the_family_finds_any_local_file_of_that_size(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_ollama(home)
    lay_out_hub(home)
    models = [
        local_models.LocalModel(name, "hub", Path(name), (), None, size, quant, size_bytes)
        for name, size, quant, size_bytes in (
            ("a/b:Q8_0", "4B", "Q8_0", 4_482_403_488),
            ("a/b:UD-Q4_K_XL", "4B", "UD-Q4_K_XL", 2_912_109_728),
            ("a/c:Q4_K_M", "9B", "Q4_K_M", 5_680_522_464),
            ("a/d", "2B", "safetensors", 4_500_000_000),
        )
    ]

    def needed(model: local_models.LocalModel) -> int:
        return memory_report.needed_bytes(model.size, model.quant, model.size_bytes)

    def find_name(name: str, memory_gb: float = 16) -> str | None:
        from loqal.hub.resolve import find_local

        found = find_local(name, int(memory_gb * 1e9), needed, models)
        return found.name if found else None

    assert find_name("qwen3.5:4b-q8_0") == "a/b:Q8_0"
    assert find_name("qwen3.5:4b") == "a/b:Q8_0"
    assert find_name("qwen3.5:4b", memory_gb=5) == "a/b:UD-Q4_K_XL"
    assert find_name("qwen3.5:4b-q4_k_xl") == "a/b:UD-Q4_K_XL"
    assert find_name("Qwen3.5:9B") == "a/c:Q4_K_M"
    assert find_name("qwen3.5:2b-safetensors") == "a/d"
    assert find_name("A/B:q8_0") == "a/b:Q8_0"
    assert find_name("hf.co/a/b:Q8_0") == "a/b:Q8_0"
    assert find_name("qwen3.5:0.8b") is None
    assert find_name("qwen3.5:4b-mtp") is None
    with pytest.raises(CheckpointError, match=r"loqal pull qwen3\.5:0\.8b"):
        open_model.find("qwen3.5:0.8b")
    assert find.is_absent_name("qwen3.5:0.8b") and not find.is_absent_name(f"{REPO}:UD-Q4_K_XL")


def pull_demo(home: Path, monkeypatch: pytest.MonkeyPatch, hub: Emulator) -> local_models.LocalModel:
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    pull(select(Wanted(REPO, repo=REPO), 1 << 40, lambda: 10.0, file_bytes), policy=POLICY)
    return next(model for model in local_models.all_models() if model.origin == "hub")


@pytest.mark.parametrize("seed", range(6))
def test_repair_fetches_only_what_is_damaged(home: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    data = DEMO.read_bytes()
    rng = random.Random(seed)
    with Emulator({REPO: Repo({"Qwen3.5-demo-Q8_0.gguf": data})}) as hub:
        model = pull_demo(home, monkeypatch, hub)
        blob = model.path.resolve()
        assert [verdict.state for verdict in verify.verify(model)] == ["right"]
        damaged = bytearray(data)
        where = rng.randrange(len(data))
        damaged[where] ^= 1
        blob.write_bytes(damaged if seed % 3 else damaged[:where])
        verdicts = verify.verify(model)
        assert [verdict.state for verdict in verdicts] == ["damaged"]
        assert verify.repair(model, verdicts, policy=POLICY) == 1
        assert blob.read_bytes() == data
        expected = POLICY.part_bytes if seed % 3 else len(data) - where + POLICY.part_bytes
        assert hub.twice() <= expected
        assert verify.repair(model, verify.verify(model), policy=POLICY) == 0
        model.path.resolve().unlink()
        kept = next((m for m in local_models.all_models() if m.origin == "hub"), None)
        assert kept is None  # a name that leads nowhere is no model; pulling brings it back
        assert pull_demo(home, monkeypatch, hub).path.read_bytes() == data


def test_repair_without_a_record_compares_with_the_source(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DEMO.read_bytes()
    with Emulator({REPO: Repo({"Qwen3.5-demo-Q8_0.gguf": data})}) as hub:
        model = pull_demo(home, monkeypatch, hub)
        provenance.forget(etag_of(data))
        model.path.resolve().write_bytes(data[:5000] + b"?" + data[5001:])
        assert verify.repair(model, verify.verify(model), policy=POLICY) == 1
        assert model.path.read_bytes() == data
    lay_out_ollama(home)
    foreign = next(model for model in local_models.all_models() if model.origin == "ollama")
    foreign.path.write_bytes(data[:5000] + b"?" + data[5001:])
    with pytest.raises(RequestError, match="belong to ollama"):
        verify.repair(foreign, verify.verify(foreign))


def test_a_file_without_a_stated_digest_is_noted_first(home: Path) -> None:
    lay_out_lm_studio(home)
    model = local_models.all_models()[0]
    assert [verdict.state for verdict in verify.verify(model)] == ["noted"]
    assert [verdict.state for verdict in verify.verify(model)] == ["right"]
    data = model.path.read_bytes()
    model.path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [verdict.state for verdict in verify.verify(model)] == ["damaged"]


def test_removing_refuses_what_others_own_and_keeps_what_others_need(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out_ollama(home)
    lay_out_lm_studio(home)
    for model in local_models.all_models():
        with pytest.raises(RequestError, match="belongs to"):
            remove.remove(model)
    assert len(local_models.all_models()) == 2
    data, tower = DEMO.read_bytes(), b"GGUF" + bytes(2000)
    vision = tiny_config(vision=True)
    write_gguf(home / "x.gguf", vision, random_tensors(vision), mmproj=home / "mmproj.gguf")
    tower = (home / "mmproj.gguf").read_bytes()
    files = {"Qwen3.5-demo-Q8_0.gguf": data, "Qwen3.5-demo-Q4_0.gguf": data, "mmproj-F16.gguf": tower}
    with Emulator({REPO: Repo(files)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        for quant in ("Q8_0", "Q4_0"):
            pull(select(Wanted(REPO, repo=REPO, quant=quant), 1 << 40, lambda: 10.0, file_bytes), policy=POLICY)
    first, second = [model for model in local_models.all_models() if model.origin == "hub"]
    assert first.mmproj is not None and first.mmproj == second.mmproj
    remove.remove(first)
    assert second.path.exists() and first.mmproj.exists()  # the blob both names share, and the tower
    remove.remove(second)
    assert not second.mmproj.exists() and not list((home / "hub").rglob("blobs/*"))


def test_gc_finds_waste_and_nothing_else(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    with Emulator({REPO: Repo({"Qwen3.5-demo-Q8_0.gguf": DEMO.read_bytes()})}) as hub:
        model = pull_demo(home, monkeypatch, hub)
    assert list(remove.unreferenced()) == []
    blobs = model.path.resolve().parent
    (blobs / ("b" * 64 + ".loqal-partial")).write_bytes(b"x" * 5000)
    (blobs / "foreign").write_bytes(b"x")  # not ours to judge
    model.path.unlink()
    reasons = {unreferenced.path.name: unreferenced.why for unreferenced in remove.unreferenced()}
    assert len(reasons) == 2 and "foreign" not in reasons
    assert main(["gc", "--dry-run"]) == 0 and model.path.parent.exists()
    assert main(["gc"]) == 0
    assert [path.name for path in blobs.iterdir()] == ["foreign"]


def test_the_verbs(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = DEMO.read_bytes()
    with Emulator({REPO: Repo({"Qwen3.5-demo-Q8_0.gguf": data})}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        assert main(["pull", f"{REPO}:Q8_0", "--dry-run"]) == 0
        assert not local_models.all_models()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
        # `run` fetches a published model that is not here, and then answers.
        assert main(["run", f"{REPO}:Q8_0", "Hello", "--max-tokens", "2", "--context-len", "256"]) == 0
    captured = capsys.readouterr()
    assert "not on this machine yet" in captured.err and "snapshots" not in captured.out
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["list"]) == 0
    assert f"{REPO}:Q8_0" in capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["licence"] == "apache-2.0" and listed[0]["digest"] == etag_of(data)
    assert main(["list", "--available"]) == 0
    assert "qwen3.5:397b-a17b" in capsys.readouterr().out
    assert main(["show", f"{REPO}:Q8_0"]) == 0
    assert main(["verify", f"{REPO}:Q8_0"]) == 0
    assert main(["repair", f"{REPO}:Q8_0"]) == 0
    assert main(["pull", "qwen3.5:0.8b"]) == 2
    assert "switched off" in capsys.readouterr().err
    assert main(["import", str(DEMO), "--name", "mine"]) == 0
    assert main(["rm", "mine"]) == 0 and main(["rm", f"{REPO}:Q8_0"]) == 0
    assert local_models.all_models() == []
    assert main(["pull", "qwen3.5:5b"]) == 2 and main(["rm", "nothing-of-this-name"]) == 3


def test_hostile_files_are_no_models(home: Path) -> None:
    rng = np.random.default_rng(0)
    folder = home / ".cache/llama.cpp"
    folder.mkdir(parents=True)
    data = DEMO.read_bytes()[:4096]
    for i in range(200):
        broken = bytearray(data)
        for at in rng.integers(4, 400, 3):
            broken[at] = int(rng.integers(256))
        (folder / f"{i}-Q4_0.gguf").write_bytes(broken[: int(rng.integers(0, len(broken)))])
    local_models.all_models()
    etag = "sha256:../../etc/passwd"
    manifest = home / ".ollama/models/manifests/r/library/m/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": etag}]}))
    local_models.all_models()
    with pytest.raises(CheckpointError):
        cache.blob_path("a/b", "../x")
