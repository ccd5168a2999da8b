"""The end of a run: stores sign it once, and tell the run's model from any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privemo import simulation
from privemo import weights as w
from privemo.cli import main
from privemo.closing import Closing, check_model, needed_of, sign_end, signed_by
from privemo.closing_records import ask_to_sign, closing_reply
from privemo.errors import RunError, UpdateRejected
from privemo.flower import ConfigRecord, RecordDict
from privemo.grid import task_identity
from privemo.protocol import CONFIG
from privemo.replies import failed_entry
from privemo.runs import Run
from privemo.statements import canonical_hash
from privemo_audits import build_report
from privemo_consent import SigningKey
from tests.support.kiosks import signed
from tests.support.small_runs import small_run

PLACE = "store-01"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two stores, small and quick."""
    run = small_run(tmp_path_factory.mktemp("whole"), steps_per_round=1, model="gray-cnn")
    simulation.run(run)
    simulation.finish(run)
    return run.folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Run:
    shutil.copytree(whole, tmp_path / "run")
    return Run(tmp_path / "run")


def sign_again(run: Run, manifests: list[bytes], *, name: str = PLACE) -> Closing:
    return sign_end(run.folder / "stores" / name, name, run.run_id, manifests)


def forget(run: Run, name: str = PLACE) -> Path:
    """A store that has signed no end yet."""
    (folder := run.folder / "stores" / name).joinpath("final.json").unlink()
    return folder


def test_every_store_signs_the_model_that_the_run_ends_with(run: Run) -> None:
    signed = run.closings()
    assert sorted(signed) == run.stores
    assert run.unsigned() == []
    model = w.sha256(w.load_weights(run.model_path))
    for name, closing in signed.items():
        assert (closing.model, closing.round) == (model, 2)
        assert closing.manifest == canonical_hash(run.manifests()[-1])
        check_model(run.folder / "stores" / name, model)
        kept = json.loads((run.folder / "stores" / name / "final.json").read_bytes())
        assert kept == closing.content()


def test_the_same_end_is_signed_again_and_another_one_never(run: Run) -> None:
    honest = needed_of(run.manifests())
    assert sign_again(run, honest) == run.closings()[PLACE]
    other = {**run.manifests()[-1], "model_out": "0" * 64}
    with pytest.raises(UpdateRejected, match="another end of this run"):
        sign_again(run, [rfc8785.dumps(other)])
    assert sign_again(run, honest) == run.closings()[PLACE]


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.__setitem__(key, value)


def unsaid(manifest: dict[str, Any]) -> None:
    manifest["stores"][PLACE]["statement"]["epsilon"] = 0.0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (changed("run_id", "another"), "end of another run"),
        (changed("prev", "0" * 64), "what came before round 2 is not what this store signed"),
        (changed("round", 3), "round 2, in which this store took part, is not shown"),
        (unsaid, "round 2 says of this store what it did not sign"),
    ],
)
def test_an_end_that_is_not_what_the_store_took_part_in_is_not_signed(
    run: Run, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    forget(run)
    change(manifest := run.manifests()[-1])
    with pytest.raises(UpdateRejected, match=why):
        sign_again(run, [rfc8785.dumps(manifest)])
    assert not (run.folder / "stores" / PLACE / "final.json").exists()


def test_rounds_that_do_not_follow_each_other_are_not_signed(run: Run) -> None:
    forget(run)
    first, second = run.manifests()
    first["finished"] = "2000-01-01T00:00:00Z"
    with pytest.raises(UpdateRejected, match="does not follow"):
        sign_again(run, [rfc8785.dumps(first), rfc8785.dumps(second)])


def test_a_store_that_took_no_part_signs_nothing(run: Run) -> None:
    (forget(run) / "statements.jsonl").unlink()
    with pytest.raises(UpdateRejected, match="took no part"):
        sign_again(run, needed_of(run.manifests()))


@pytest.mark.parametrize(
    "shown", [b"", b"[]", b"{}", b'{"round": 1}', b'{"stores":{},"round":"x"}', b"[" * 100_000]
)
def test_what_is_no_manifest_is_an_error_that_tells_the_server_no_more(
    run: Run, shown: bytes
) -> None:
    with pytest.raises(RunError, match="manifest"):
        sign_again(run, [shown])
    folder = run.folder / "stores" / PLACE
    for asked in ({"manifests": [shown]}, {"manifests": "x"}, {}):
        with pytest.raises(RunError, match=r"^RunError$"):
            closing_reply(folder, RecordDict({CONFIG: ConfigRecord(asked)}))


def test_the_chain_is_shown_from_where_the_first_store_fell_silent(run: Run) -> None:
    first, second = run.manifests()
    assert needed_of([first, second]) == [rfc8785.dumps(second)]
    second["stores"][PLACE]["statement"] = None
    assert len(needed_of([first, second])) == 2


def test_a_signature_of_another_key_or_another_end_counts_for_nothing(run: Run) -> None:
    last, signed = run.manifests()[-1], run.closings()[PLACE]
    forged = signed.model_copy(
        update={"signature": Ed25519PrivateKey.generate().sign(signed.to_bytes()).hex()}
    )
    for bad, why in (
        (forged.content(), "did not sign"),
        ({**signed.content(), "model": "0" * 64}, "did not sign"),
        ({**signed.content(), "store": "nobody"}, "no store of this run"),
        ({**signed.content(), "more": 1}, "malformed"),
    ):
        with pytest.raises(UpdateRejected, match=why):
            signed_by([bad], run.roster, last)
    with pytest.raises(UpdateRejected, match="another end"):
        signed_by([signed.content()], run.roster, {**last, "model_out": "0" * 64})


class Line:
    """A grid of which one store answers, and the others are silent or make it up."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def get_node_ids(self) -> list[int]:
        return [2, 3]

    def send_and_receive(self, messages: list[Any], *, timeout: float | None = None) -> list[Any]:
        assert timeout is not None
        (first, second) = messages
        replies = []
        for message, name in ((first, PLACE), (second, "store-02")):
            content = closing_reply(self.run.folder / "stores" / name, message.content)
            replies.append(_Reply(content))
        said = json.loads(str(replies[1].content["content"]["closing"]))
        said["model"] = "0" * 64
        replies[1].content["content"] = ConfigRecord({"closing": json.dumps(said)})
        made_up = [{}, {"closing": 7}, {"closing": "[1]"}, {"closing": "{"}, {"reason": "no"}]
        return replies + [_Reply(RecordDict({"content": ConfigRecord(m)})) for m in made_up]


class _Reply:
    metadata: SimpleNamespace

    def __init__(self, content: RecordDict) -> None:
        self.content = content

    def has_error(self) -> bool:
        return False


def test_answers_that_do_not_hold_are_left_out_and_the_run_is_whole(run: Run) -> None:
    with task_identity():
        found = ask_to_sign(Line(run), run.manifests(), run.roster)  # type: ignore[arg-type]
    assert list(found) == [PLACE]


class Nodes:
    """A grid of stores that answer what they answer, and of one that wants to see rounds that are none."""

    def __init__(self, run: Run) -> None:
        self.run, self.shown = run, list[tuple[int, int]]()

    def get_node_ids(self) -> list[int]:
        return [1, 2, 3]

    def send_and_receive(self, messages: list[Any], *, timeout: float | None = None) -> list[Any]:
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            shown = message.content[CONFIG]["manifests"]
            self.shown.append((node, len(shown)))
            content = RecordDict({"content": ConfigRecord({"reason": "x", "from": 10**9})})
            if node < 3:
                content = closing_reply(
                    self.run.folder / "stores" / f"store-0{node}", message.content
                )
            reply = _Reply(content)
            reply.metadata = SimpleNamespace(src_node_id=node)
            replies.append(reply)
        return replies


def test_a_store_that_was_killed_with_its_answer_signs_the_end_all_the_same(run: Run) -> None:
    """It paid, and knows that it took part; the server knows of nothing, and shows others the last round."""
    rows = (folder := forget(run)).joinpath("statements.jsonl").read_text().splitlines()
    (folder / "statements.jsonl").write_text(rows[0] + "\n")
    first, second = run.manifests()
    for manifest in (first, second):
        manifest["stores"][PLACE] = failed_entry("silent")
    second["prev"] = canonical_hash(first)
    nodes = Nodes(run)
    with task_identity():
        found = ask_to_sign(nodes, [first, second], run.roster)  # type: ignore[arg-type]
    assert nodes.shown == [(1, 1), (2, 1), (3, 1), (1, 2), (3, 0)]
    assert found[PLACE].manifest == canonical_hash(second)


def test_whoever_may_have_taken_part_is_asked_to_sign_when_a_run_goes_on(run: Run) -> None:
    """Also who stands in no manifest: of a store that was killed with its answer the server heard nothing."""
    take_one(run.folder / "rounds" / "closing.json")
    assert run.unsigned() == [PLACE]
    for number in (1, 2):
        path = run.folder / "rounds" / f"000{number}.json"
        manifest = json.loads(path.read_bytes())
        del manifest["stores"][PLACE]
        path.write_text(json.dumps(manifest))
    again = Run(run.folder)
    again.closings = dict  # type: ignore[method-assign]  # they are of other manifests now
    assert again.unsigned() == run.stores


def test_a_run_whose_last_round_was_changed_afterwards_is_not_finished_and_fails_its_audit(
    run: Run,
) -> None:
    assert build_report(run.folder).passed
    last = run.folder / "rounds" / "0002.json"
    other = {k: array + 1 for k, array in w.load_weights(run.model_path).items()}
    w.save_weights(run.model_path, other)
    w.save_weights(run.folder / "checkpoints" / "round-0002.safetensors", other)
    last.write_text(json.dumps({**json.loads(last.read_bytes()), "model_out": w.sha256(other)}))
    again = Run(run.folder)
    assert w.sha256(again.finished()) == w.sha256(other)  # the server's own files fit together
    with pytest.raises(RunError, match="does not fit the last round"):
        again.closings()
    report = build_report(run.folder)
    assert "manifests.verify" in report.failed_checks
    with pytest.raises(UpdateRejected, match="Do not use it"):
        check_model(run.folder / "stores" / PLACE, w.sha256(other))
    (run.folder / "rounds" / "closing.json").unlink()  # and whoever takes that away is told of
    (missing,) = [c for c in build_report(run.folder).checks if c.id == "manifests.end_signed"]
    assert not missing.passed
    assert "store-01" in missing.evidence


def take_all(path: Path) -> None:
    path.unlink()


def take_one(path: Path) -> None:
    content = json.loads(path.read_bytes())
    content["closings"] = [each for each in content["closings"] if each["store"] != PLACE]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("take", [take_all, take_one])
def test_what_stores_signed_at_the_end_and_is_gone_is_found_out_by_an_earlier_report(
    run: Run, take: Callable[[Path], None]
) -> None:
    earlier = build_report(run.folder)
    assert build_report(run.folder, earlier=earlier).passed
    take(run.folder / "rounds" / "closing.json")
    assert build_report(run.folder).passed, "a warning: it may never have been signed"
    report = build_report(run.folder, earlier=earlier)
    assert "manifests.verify" in report.failed_checks
    [told] = [check for check in report.checks if check.id == "manifests.verify"]
    assert PLACE in told.evidence


def test_where_one_was_away_at_the_end_fewer_signatures_than_before_are_found_out(run: Run) -> None:
    closing = run.folder / "rounds" / "closing.json"
    take_one(closing)
    earlier = build_report(run.folder)
    assert build_report(run.folder, earlier=earlier).passed
    closing.write_text(json.dumps({**json.loads(closing.read_bytes()), "closings": []}))
    assert build_report(run.folder).passed
    assert "manifests.verify" in build_report(run.folder, earlier=earlier).failed_checks


@pytest.fixture
def asked(run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`privemo federation check` of a model, at one store: its exit code, and what it said."""

    def ask(model: Path, *more: str) -> tuple[int, str]:
        store = run.folder / "stores" / PLACE
        with pytest.MonkeyPatch.context() as patch:
            line = ["privemo", "federation", "check", str(store), str(model), *more]
            patch.setattr("sys.argv", line)
            with pytest.raises(SystemExit) as done:
                main()
        said = capsys.readouterr()
        return int(done.value.code or 0), " ".join((said.out + said.err).split())

    return ask


def test_a_store_asks_whether_a_model_is_its_runs_own(
    run: Run, tmp_path: Path, asked: Callable[..., tuple[int, str]]
) -> None:
    code, said = asked(run.model_path)
    assert (code, "is the model that store-01 signed" in said) == (0, True)
    other = tmp_path / "other.safetensors"
    w.save_weights(other, {k: a + 1 for k, a in w.load_weights(run.model_path).items()})
    code, said = asked(other)
    assert (code, "Do not use it" in said) == (1, True), said


def test_an_exported_model_of_another_run_or_altered_since_is_a_no_as_well(
    run: Run, tmp_path: Path, asked: Callable[..., tuple[int, str]]
) -> None:
    key = SigningKey.generate("chain")
    mine = {
        "run_id": run.run_id,
        "weights_sha256": w.sha256(w.load_weights(run.model_path)),
    }
    (own := tmp_path / "own.onnx").write_bytes(signed(key, **mine))
    assert asked(own, "--key", str(key.verifying))[0] == 0
    strangers = str(SigningKey.generate("chain").verifying)
    (another := tmp_path / "another.onnx").write_bytes(signed(key, **{**mine, "run_id": "r-9"}))
    (altered := tmp_path / "altered.onnx").write_bytes(own.read_bytes() + b"0")
    for model, trusted, why in (
        (another, str(key.verifying), "is of run r-9"),
        (altered, str(key.verifying), "something stands behind it"),
        (own, strangers, "no key that is known has signed"),
    ):
        code, said = asked(model, "--key", trusted)
        assert (code, why in said) == (1, True), said


def test_where_a_store_cannot_tell_it_does_not_say_no(
    run: Run, tmp_path: Path, asked: Callable[..., tuple[int, str]]
) -> None:
    store, key = run.folder / "stores" / PLACE, str(SigningKey.generate("chain").verifying)
    (torn := tmp_path / "torn.safetensors").write_bytes(run.model_path.read_bytes()[:100])
    for line, why in (
        ((tmp_path / "model.onnx",), "give a --key"),
        ((tmp_path / "gone.onnx", "--key", key), "gone.onnx cannot be read"),
        ((tmp_path / "gone.safetensors",), "gone.safetensors"),
        ((torn,), "torn.safetensors"),
    ):
        code, said = asked(*line)
        assert (code, why in said) == (2, True), said
    (store / "final.json").write_text("{}")
    assert asked(run.model_path)[0] == 2
    forget(run)
    code, said = asked(run.model_path)
    assert (code, "signed no end" in said) == (2, True)
