"""A short run of the fuzzer on every target, and the fuzzer itself on a target that is broken."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from fuzz import coverage, mutation, seeds
from fuzz.__main__ import main
from fuzz.coverage import CouldNotRun
from fuzz.inputs import Stream, split_frames
from fuzz.outcome import Budget, Failure, Outcome
from fuzz.targets import TARGETS, audio, model, twilio
from personaplex_bridge.audio.downlink import make_downlink
from personaplex_bridge.twilio.protocol import StreamProtocol, StreamState

MUTATIONS = 300
EACH = pytest.mark.parametrize("name", TARGETS)


def broken(data: bytes) -> None:
    """A target that fails on purpose."""
    assert b"!" not in data, "an exclamation"


@pytest.fixture
def broken_target(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(TARGETS, "broken", broken)
    monkeypatch.setitem(seeds.SEEDS, "broken", lambda: [b"good", b"better"])
    return "broken"


def fuzz(folder: Path, *arguments: str) -> int:
    places = ["--results", str(folder / "results.json"), "--failures", str(folder / "failures")]
    return main([*arguments, "--engine", "hypothesis", *places])


# The targets


@EACH
def test_nothing_is_wrong_with_the_seeds_and_their_mutations(name: str) -> None:
    begin = seeds.of(name)
    budget = Budget(len(begin) + MUTATIONS, None, seed=1)
    outcome = mutation.run(TARGETS[name], begin, budget, progress=lambda _: None)
    assert outcome.failure is None
    assert outcome.executions >= len(begin) + MUTATIONS


@given(mutation.arbitrary)
@settings(max_examples=200)
def test_nothing_is_wrong_with_arbitrary_input(data: bytes) -> None:
    for target in TARGETS.values():
        target(data)


def test_the_seeds_of_twilio_hold_a_whole_call() -> None:
    protocol = StreamProtocol()
    call = max((split_frames(data) for data in seeds.twilio()[:8]), key=len)
    for frame in call:
        protocol.receive(frame)
    assert protocol.state is StreamState.STOPPED


def test_the_first_seed_of_the_audio_is_the_stand_ins_own() -> None:
    downlink = make_downlink("native")
    sounds = [downlink.feed(piece) for piece in Stream.parse(seeds.audio()[0]).pieces()]
    assert sum(map(len, sounds)) == 4 * 640
    assert not downlink.damage


def test_a_target_notices_an_error_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.twilio.inbound.load", lambda _: {"event": "mark"}["?"])
    with pytest.raises(KeyError):
        twilio(b"{}")


def test_a_target_notices_what_is_serialized_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    media = seeds.twilio()[2]
    monkeypatch.setattr("personaplex_bridge.twilio.inbound.encode_payload", lambda _: "AAAA")
    with pytest.raises(AssertionError, match="serialized"):
        twilio(media)


def test_a_target_notices_a_word_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.personaplex.text.MAX_WORD_CHARS", 10**6)
    with pytest.raises(AssertionError, match="keeps more than a word"):
        model(b"\x00\x1e\x1e\x02" + b"x" * 300)


def test_a_target_notices_sound_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.targets._MAX_SOUND_BYTES", 160)
    with pytest.raises(AssertionError, match="more than a message may hold"):
        audio(seeds.audio()[0])


# The command line


def test_what_is_found_is_saved_and_can_be_replayed(
    tmp_path: Path, broken_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzz(tmp_path, broken_target, "--executions", "5000") == 1
    (saved,) = (tmp_path / "failures").iterdir()
    assert b"!" in saved.read_bytes()
    told = capsys.readouterr().out
    assert "an exclamation" in told
    assert f"--replay {saved}" in told
    with pytest.raises(AssertionError, match="an exclamation"):
        main(["--replay", str(saved)])
    results = json.loads((tmp_path / "results.json").read_text())
    assert "an exclamation" in results["targets"]["broken"]["failure"]


def test_a_seed_that_fails_is_found_at_once(
    tmp_path: Path, broken_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(seeds.SEEDS, broken_target, lambda: [b"good", b"bad!"])
    assert fuzz(tmp_path, broken_target) == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["targets"]["broken"]["executions"] == 2


def test_a_run_that_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz(tmp_path, "model", "twilio", "--executions", "50", "--seed", "3") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["engine"].startswith("Hypothesis")
    assert results["seed"] == 3
    assert results["machine"]["processor"]
    assert {name: found["failure"] for name, found in results["targets"].items()} == {
        "model": None,
        "twilio": None,
    }
    assert all(found["executions"] >= 50 for found in results["targets"].values())
    assert not (tmp_path / "failures").exists()
    assert "executions" in capsys.readouterr().out


def test_time_is_a_budget_too(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "model", "--seconds", "0") == 0


def test_a_replay_that_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "model-1").write_bytes(b"\x00")
    (tmp_path / "saved").write_bytes(b"\x00")
    assert main(["--replay", str(tmp_path / "model-1")]) == 0
    assert main(["--replay", str(tmp_path / "saved")]) == 2
    assert main(["twilio", "--replay", str(tmp_path / "saved")]) == 0


def test_an_unknown_target(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["modem"])
    assert ended.value.code == 2
    assert "'modem' is none of twilio, model, audio" in capsys.readouterr().err


# The other engine, which need not be installed


def watched(script: str, found: Path) -> tuple[Outcome, list[int]]:
    """What is made of a program that prints and saves as libFuzzer does."""
    counts: list[int] = []
    return coverage.watch([sys.executable, "-c", script], found, counts.append), counts


def test_libfuzzer_ends_well(tmp_path: Path) -> None:
    outcome, counts = watched(
        r"print('#2\tINITED\n#64\tpulse\nDone 70 runs\nstat::number_of_executed_units: 70')",
        tmp_path,
    )
    assert (outcome.executions, outcome.failure) == (70, None)
    assert counts == [2, 64, 70]


def test_libfuzzer_finds_something(tmp_path: Path) -> None:
    outcome, _ = watched(
        f"open({str(tmp_path / 'crash-1')!r}, 'wb').write(b'!')\n"
        "print('stat::number_of_executed_units: 7')\n"
        "print(' === Uncaught Python exception: ===\\nKeyError: 1\\nTraceback')\n"
        "exit(77)",
        tmp_path,
    )
    assert outcome.executions == 7
    assert outcome.failure == Failure(b"!", "KeyError: 1")


def test_libfuzzer_runs_out_of_memory(tmp_path: Path) -> None:
    script = f"open({str(tmp_path / 'oom-1')!r}, 'wb').write(b'big'); exit(71)"
    assert watched(script, tmp_path)[0].failure == Failure(b"big", "oom")


def test_libfuzzer_can_not_run(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match="no such flag"):
        watched("print('no such flag'); exit(1)", tmp_path)


@pytest.mark.skipif(not coverage.is_available(), reason="atheris is not installed")
def test_atheris(tmp_path: Path) -> None:
    budget = Budget(500, None, seed=1)
    outcome = coverage.run("model", seeds.of("model"), budget, tmp_path, lambda _: None)
    assert outcome.failure is None
    assert outcome.executions >= 500
    assert list((tmp_path / "model").iterdir())
