import dataclasses
import errno
import json
import os
import threading

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from worlds import digits, fit, forge, linear, normed, sealed, sentences, tagger

from assay import Examples, Subject, UsageError, bound
from assay.builder import Builder
from assay.certificate import file
from assay.certificate.certify import certify
from assay.certificate.claim import Claim, printable
from assay.certificate.verify import verify
from assay.errors import MalformedCertificate


@pytest.fixture(scope="module")
def certificate():
    return certify(linear, trials=12)


@pytest.fixture
def path(certificate, tmp_path):
    target = tmp_path / "digits.assay"
    certificate.save(target)
    return target


def false_claims(verification):
    return {check.name for check in verification.checks if check.holds is False}


def test_what_was_certified_holds(certificate, path):
    verification = verify(path, linear)
    assert verification.verdict == "holds"
    assert verification.findings == ()
    assert verification.bounds == certificate.bounds
    assert torch.equal(verification.model.weight, certificate.model.weight)
    assert "Every claim holds" in verification.view().answer
    assert json.dumps(verification.to_dict())


@pytest.mark.parametrize("build", [normed, tagger])
def test_other_architectures_hold_too(build, tmp_path):
    certify(build, trials=4).save(tmp_path / "c")
    assert verify(tmp_path / "c", build).verdict == "holds"


def test_a_brought_model_holds_and_is_named(tmp_path):
    model = linear().model
    fit(model, digits(), None)
    certify(model, digits(), trust=True, trials=2).save(tmp_path / "c")
    verification = verify(tmp_path / "c", model, digits())
    assert verification.verdict == "holds"
    assert [f.rule for f in verification.findings] == ["certificate.brought-weights"]


FORGERIES = [
    ({"errors": 0}, {"errors"}),
    ({"bits": 100}, {"bits"}),
    ({"binomial": 0.1}, {"binomial bound at δ = 0.05"}),
    ({"kl": 0.1}, {"kl bound at δ = 0.05"}),
    ({"course": 0.1}, {"course bound at δ = 0.05"}),
    ({"delta": 0.5}, {"binomial bound at δ = 0.5"}),
    ({"delta": 0.0}, {"bounds"}),
    ({"delta": 1.0}, {"bounds"}),
    ({"examples": 10**6}, {"examples"}),
    ({"examples": 10**6, "errors": 10**6}, {"examples", "binomial bound at δ = 0.05"}),
    ({"examples": 0}, {"examples", "errors"}),
    ({"data": "0" * 64}, {"digest of the examples"}),
    ({"prior": "0" * 64}, {"what the builder makes"}),
    ({"seed": 1}, {"what the builder makes"}),
    ({"sizes": {"d": 32}}, {"sizes"}),
    ({"sizes": {}}, {"sizes"}),
    ({"arguments": "x"}, {"arguments"}),
    ({"anchored": False}, {"what the builder makes"}),
    ({"brought": ("weight",)}, {"weights taken for granted"}),
    ({"rule": "user rule lenient"}, {"error rule"}),
    ({"language": 2}, {"language"}),
]


@pytest.mark.parametrize(("claims", "expected"), FORGERIES)
def test_forged_claims_are_false(path, claims, expected):
    forge(path, **claims)
    verification = verify(path, linear)
    assert verification.verdict == "false"
    assert expected <= false_claims(verification)
    assert {f.severity for f in verification.findings if f.rule == "certificate.false-claim"} == {
        "error"
    }
    assert "false here" in verification.view().answer


def test_a_consistent_forgery_of_the_errors_is_false(certificate, path):
    better = bound(0, certificate.examples, certificate.bits)
    forge(path, errors=0, binomial=better.binomial, kl=better.kl, course=better.course)
    assert {"errors", "binomial bound at δ = 0.05"} <= false_claims(verify(path, linear))


@pytest.mark.parametrize("claims", [{"errors": 0}, {"examples": 10**6}])
def test_bounds_are_derived_from_what_was_counted_here(certificate, path, claims):
    forge(path, **claims)
    verification = verify(path, linear)
    assert verification.bounds == certificate.bounds
    assert len(false_claims(verification)) == 1


def test_a_weaker_claim_is_true(certificate, path):
    worse = bound(certificate.errors + 5, certificate.examples, certificate.bits)
    forge(
        path,
        errors=certificate.errors + 5,
        binomial=worse.binomial,
        kl=worse.kl,
        course=worse.course,
    )
    assert verify(path, linear).verdict == "holds"


def test_a_seed_that_the_code_word_does_not_say(certificate, path):
    # the builder's digest is forged too: only the code word itself tells
    from assay.certificate.prior import Prior

    forge(path, seed=1, prior=Prior.of(Builder(linear), 1).digest(True))
    assert "seed in the code word" in false_claims(verify(path, linear))


def test_other_examples_builder_and_sizes_are_false(path):
    other = digits()
    other = Examples(other.inputs[0][:-1], other.targets[:-1])
    assert {"examples", "digest of the examples"} <= false_claims(verify(path, linear, other))
    assert "what the builder makes" in false_claims(verify(path, normed, digits()))
    narrow = Builder(linear, sizes={"d": 32})
    verification = verify(path, narrow)
    assert false_claims(verification) == {"sizes", "what the builder makes"}
    assert "--size" in verification.findings[0].repair
    assert verification.model is None
    assert verify(path, tagger, sentences()).verdict == "false"


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_file_is_malformed(path, data):
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = bytearray(content)
    damaged[place] ^= flip
    other = path.with_name("damaged")
    other.write_bytes(damaged)
    with pytest.raises(MalformedCertificate):
        verify(other, linear)


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_code_word_changed_by_a_forger_never_holds(path, data):
    claim, code = file.unpack(path.read_bytes())
    changed = bytearray(code)
    changed[data.draw(st.integers(0, len(code) - 1))] ^= data.draw(st.integers(1, 255))
    other = path.with_name("forged")
    other.write_bytes(file.pack(claim, bytes(changed)))
    try:
        verification = verify(other, linear)
    except MalformedCertificate:
        return
    # it may only hold where it is another true statement: as many bits, and no more errors
    assert verification.verdict == "false" or verification.bounds.bits == claim.bits


def test_truncation_at_every_length_is_malformed(path):
    content = path.read_bytes()
    for length in range(len(content)):
        with pytest.raises(MalformedCertificate):
            file.unpack(content[:length])
        if length % 37 == 0:
            with pytest.raises(MalformedCertificate):
                file.unpack(sealed(content[:length])) and verify_bytes(path, content[:length])


def verify_bytes(path, body):
    other = path.with_name("cut")
    other.write_bytes(sealed(body))
    return verify(other, linear)


def test_a_file_far_longer_than_the_model_is_refused(path):
    claim, code = file.unpack(path.read_bytes())
    path.write_bytes(file.pack(claim, code + bytes(200_000)))
    with pytest.raises(MalformedCertificate, match="length"):
        verify(path, linear)
    path.write_bytes(file.pack(claim, code + b"\0"))
    with pytest.raises(MalformedCertificate, match="canonical"):
        verify(path, linear)


def claim_text(certificate, **changes):
    values = dataclasses.asdict(certificate.claim) | changes
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"bits": -1},
        {"bits": 1.0},
        {"bits": True},
        {"bits": 2**62},
        {"errors": "0"},
        {"delta": 2.0},
        {"delta": 1},
        {"kl": float("nan")},
        {"kl": float("inf")},
        {"prior": "xyz"},
        {"anchored": 1},
        {"sizes": [1]},
        {"sizes": {"d": -1}},
        {"brought": "weight"},
        {"brought": [1]},
        {"builder": None},
        {"builder": "\x1b[2Jclear your screen"},
        {"builder": "\ud800"},
        {"extra": 1},
    ],
)
def test_claims_of_another_kind_are_malformed(certificate, change):
    with pytest.raises(MalformedCertificate, match="claim"):
        Claim.from_json(claim_text(certificate, **change))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(b'"bits":', b'"bits":1,"bits":'),  # doubled key
        lambda text: text.replace(b":", b": "),
        lambda text: text + b" ",
        lambda text: text.replace(b'"delta":0.05', b'"delta":5e-2'),
        lambda text: b"[" * 60_000,
        lambda text: b"[]",
        lambda text: b"9" * 50_000,
        lambda text: b"\xff",
        lambda text: b"",
        lambda text: text.replace(b'"bits"', b'"bytes"'),
    ],
)
def test_claims_that_are_not_canonical_are_malformed(certificate, spoil):
    text = certificate.claim.to_json()
    assert Claim.from_json(text) == certificate.claim
    with pytest.raises(MalformedCertificate, match="claim"):
        Claim.from_json(spoil(text))


def test_claims_longer_than_the_file_are_malformed():
    body = file.MAGIC + (2**32 - 1).to_bytes(4, "big") + b"{}"
    with pytest.raises(MalformedCertificate, match="fits"):
        file.unpack(sealed(body))


def test_a_full_disk_leaves_nothing(certificate, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        certificate.save(tmp_path / "c.assay")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_write(certificate, tmp_path, monkeypatch):
    target = tmp_path / "c.assay"
    target.write_bytes(b"old")

    def interrupted(source, destination):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        certificate.save(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_pipe_is_written_to_and_stays_a_pipe(certificate, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    certificate.save(pipe)
    reader.join(10)
    assert received == [file.pack(certificate.claim, certificate.code)]
    assert pipe.is_fifo()


def test_a_link_stays_a_link(certificate, tmp_path):
    link = tmp_path / "latest.assay"
    link.symlink_to(tmp_path / "c.assay")
    certificate.save(link)
    assert link.is_symlink()
    assert file.unpack((tmp_path / "c.assay").read_bytes())[0] == certificate.claim


def test_places_that_cannot_be_written_or_read(certificate, tmp_path):
    with pytest.raises(UsageError, match="path"):
        certificate.save(tmp_path / "missing" / "c.assay")
    with pytest.raises(UsageError, match="path"):
        certificate.save(tmp_path)
    with pytest.raises(UsageError, match="path"):
        verify(tmp_path / "none", linear)
    with pytest.raises(UsageError, match="path"):
        verify(tmp_path, linear)
    for wrong, said in ((None, "is missing"), (3, "= 3")):  # 3 would be a file descriptor
        with pytest.raises(UsageError, match=rf"path {said}"):
            verify(wrong, linear)
        with pytest.raises(UsageError, match=rf"path {said}"):
            certificate.save(wrong)


def test_without_examples(certificate, path):
    with pytest.raises(UsageError, match="examples is missing"):
        verify(path, Subject(nn.Linear(64, 10)))


def test_margins_leave_room_for_other_machines(tmp_path):
    # two of three examples are decided by less than the margin: claimed as errors, accepted as right
    def build():
        model = nn.Linear(1, 2, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def nearly(model, examples, progress):
        with torch.no_grad():
            model.weight[0] = 1.0

    data = Examples(torch.tensor([[1e-6], [2e-6], [1.0]]), torch.tensor([0, 0, 0]))
    certificate = certify(lambda: Subject(build(), fit=nearly), data)
    assert certificate.errors == 2
    certificate.save(tmp_path / "c")
    verification = verify(tmp_path / "c", lambda: Subject(build(), fit=nearly), data)
    assert verification.verdict == "holds"
    assert ("0 to 2") in {check.derived for check in verification.checks}


def test_control_characters_do_not_reach_the_terminal():
    assert printable("a\x1b[2Jb\n") == "a?[2Jb?"
