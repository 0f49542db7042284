"""A bucket says exactly what is wrong, lists whole or not at all, and holds what is locked."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from pyrage.x25519 import Identity

from flowforge.engines.backup.shelf import forget, inventory
from flowforge.engines.backup.stores.s3 import S3Store
from flowforge.engines.backup.stores.store import FOREVER, Locked, open_store
from flowforge.errors import Damaged, Refused, Unavailable
from flowforge.rules import names
from flowforge.rules.addresses import S3Address
from tests.engines.backup.copies import keep_copy
from tests.faults import proxy as faults
from tests.faults.buckets import SECRET, admin, make_bucket, open_quickly
from tests.faults.proxy import Proxy, stand_before
from tests.ports import free_port

LIST = "list-type=2"


@pytest.fixture(scope="module")
def address(buckets: str) -> S3Address:
    return make_bucket(buckets, prefix="kept/")


@pytest.fixture
def proxy(buckets: str) -> Iterator[Proxy]:
    with stand_before(buckets) as standing:
        yield standing


@pytest.fixture
def store(address: S3Address, proxy: Proxy) -> S3Store:
    return open_quickly(address, endpoint_url=proxy.url)


@pytest.fixture(autouse=True)
def no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def keys(store: S3Store, prefix: str) -> list[str]:
    return [stored.key for stored in store.listing(prefix)]


@pytest.mark.parametrize(
    ("fault", "kind", "said", "hint"),
    [
        (
            faults.answer(403, "RequestTimeTooSkewed", more="<ServerTime>12:00</ServerTime>"),
            Refused,
            "clock of this machine .* 12:00",
            "timedatectl",
        ),
        (
            faults.answer(301, "PermanentRedirect", headers="x-amz-bucket-region: eu-west-1\r\n"),
            Refused,
            "is in the region eu-west-1",
            "--region eu-west-1",
        ),
        (
            faults.answer(400, "AuthorizationHeaderMalformed", more="<Region>eu-west-1</Region>"),
            Refused,
            "is in the region eu-west-1",
            "--region eu-west-1",
        ),
        (faults.answer(403, "InvalidAccessKeyId"), Refused, "access key", "--key-id-env"),
        (faults.answer(403, "SignatureDoesNotMatch"), Refused, "secret key", "--secret-env"),
        (faults.answer(403, "AccessDenied"), Refused, "s3:ListBucket", "Allow s3:ListBucket"),
        (faults.answer(400, "ExpiredToken"), Refused, "has expired", "keys that last"),
        (faults.answer(404, "NoSuchBucket"), Refused, "no bucket", "store add"),
        (faults.answer(503, "SlowDown"), Unavailable, "SlowDown", "run it again"),
        (faults.answer(500, "InternalError"), Unavailable, "InternalError", "run it again"),
        (faults.answer(400, "Odd"), Refused, "Odd, status 400", "store test"),
        (faults.cut_before, Unavailable, "did not answer", "run it again"),
    ],
)
def test_each_refusal_names_its_cause_and_what_to_do(
    store: S3Store, proxy: Proxy, fault: faults.Fault, kind: type[Exception], said: str, hint: str
) -> None:
    proxy.fail("", fault, times=100)
    with pytest.raises(kind, match=said) as caught:
        keys(store, "a/")
    assert hint in str(caught.value)
    assert SECRET not in str(caught.value)
    assert proxy.count("") < 8


def test_a_bucket_that_is_missing_is_no_empty_store(address: S3Address) -> None:
    gone = open_quickly(address, bucket="never-made")
    for act in (lambda: keys(gone, ""), lambda: gone.head("x"), lambda: gone.put_new("x", b"")):
        with pytest.raises(Refused, match="no bucket never-made"):
            act()


def test_a_service_that_is_not_there_is_waited_for(address: S3Address) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="did not answer") as caught:
        keys(open_quickly(address, endpoint_url=url), "")
    assert url in caught.value.message


def test_without_any_keys_the_hint_says_how_to_save_them(address: S3Address) -> None:
    bare = open_quickly(address, access_key_id=None, secret_access_key=None)
    with pytest.raises(Refused, match="no keys") as caught:
        keys(bare, "")
    assert "store add attic" in caught.value.hint


def test_a_name_no_bucket_can_have_is_refused(address: S3Address) -> None:
    with pytest.raises(Refused, match="cannot be used"):
        keys(open_quickly(address, bucket="no bucket!"), "")


def a_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "public.pem", folder / "private.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def test_a_certificate_nobody_signed_is_refused_until_its_authority_is_named(
    address: S3Address, buckets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, context = a_certificate(tmp_path)
    with stand_before(buckets, context) as proxy:
        url = proxy.url.replace("127.0.0.1", "localhost")
        with pytest.raises(Refused, match="certificate") as caught:
            keys(open_quickly(address, endpoint_url=url), "")
        assert "AWS_CA_BUNDLE" in caught.value.hint
        assert proxy.seen == []
        monkeypatch.setenv("AWS_CA_BUNDLE", str(public))
        assert keys(open_quickly(address, endpoint_url=url), "none/") == []
        with pytest.raises(Refused, match="certificate"):
            keys(open_quickly(address, endpoint_url=proxy.url), "none/")


def page(first: int, last: int, *, more: bool) -> str:
    rows = "".join(
        f"<Contents><Key>kept/p/{n:04}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
        f"<Size>1</Size></Contents>"
        for n in range(first, last)
    )
    token = "<NextContinuationToken>t</NextContinuationToken>" if more else ""
    whole = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}"
    return f"<ListBucketResult>{whole}</ListBucketResult>"


def say(text: str) -> faults.Fault:
    """Answer a listing with a page."""
    return faults.rewrite(r"^.*$", text)


def test_a_listing_of_many_pages_is_whole_and_says_each_key_once(
    store: S3Store, proxy: Proxy
) -> None:
    proxy.fail(f"{LIST}(?!.*continuation)", say(page(0, 1000, more=True)))
    proxy.fail("continuation-token=t", say(page(990, 1500, more=False)))
    assert keys(store, "p/") == [f"p/{n:04}" for n in range(1500)]


@pytest.mark.parametrize(
    "second",
    [
        faults.answer(500, "InternalError"),
        faults.cut_before,
        say(page(1000, 1500, more=True)),
        say(page(0, 0, more=True).replace("<NextContinuationToken>t</NextContinuationToken>", "")),
        say(page(2000, 2001, more=False).replace("2000", "0000a")),
        faults.truncate(100),
    ],
    ids=["500", "cut", "again the same page", "no way on", "out of order", "half an answer"],
)
def test_a_listing_that_breaks_on_page_two_raises(
    store: S3Store, proxy: Proxy, second: faults.Fault
) -> None:
    proxy.fail(f"{LIST}(?!.*continuation)", say(page(0, 1000, more=True)))
    proxy.fail("continuation-token=t", second, times=100)
    with pytest.raises(Unavailable):
        keys(store, "p/")


def test_reading_goes_on_where_a_connection_broke(store: S3Store, proxy: Proxy) -> None:
    content = bytes(range(256)) * 1000
    store.put_new("r/long", content)
    proxy.fail("^GET", faults.truncate(100_000), times=2)
    proxy.fail("^GET", faults.cut_before)
    with store.read("r/long", 10, 255_000) as file:
        found = b"".join(iter(lambda: file.read(7_777) or b"", b""))
    assert found == content[10:255_010]
    assert proxy.count("^GET .*r/long") == 4


def test_reading_that_breaks_without_progress_ends(store: S3Store, proxy: Proxy) -> None:
    store.put_new("r/stuck", bytes(1000))
    proxy.fail("^GET", faults.truncate(0), times=100)
    with pytest.raises(Unavailable), store.read("r/stuck") as file:
        file.read(10)
    assert proxy.count("^GET") < 10


def test_an_object_replaced_while_it_is_read_is_damage(
    store: S3Store, proxy: Proxy, address: S3Address
) -> None:
    store.put_new("r/swapped", bytes(1000))
    proxy.fail("^GET", faults.truncate(500))
    with pytest.raises(Damaged, match="was replaced"), store.read("r/swapped") as file:
        file.read(500)
        owner = admin(str(address.endpoint_url))
        owner.put_object(Bucket=address.bucket, Key="kept/r/swapped", Body=b"1" * 1000)
        while file.read(100):
            pass


def test_nothing_follows_the_end(store: S3Store) -> None:
    store.put_new("r/empty", b"")
    for offset, length in ((0, None), (0, 0), (0, 9), (5, None)):
        with store.read("r/empty", offset, length) as file:
            assert file.read(10) == b""


def test_a_copy_is_locked_and_a_proof_is_not(buckets: str) -> None:
    locking = make_bucket(buckets, ObjectLockEnabledForBucket=True)
    store = open_quickly(locking, lock_days=30)
    data, manifest = (
        f"postgres/s/d/backup-20260101-000000{end}" for end in (".sql.gz", names.MANIFEST_SUFFIX)
    )
    proof = "postgres/s/d/proofs/backup-20260101-000000/p.json"
    with store.upload(data) as upload:
        upload.write(bytes(200_000))
        upload.commit()
    for key in (manifest, proof):
        store.put_new(key, b"{}")
    for key in (data, manifest):
        held = store.head(key)
        assert held is not None and held.locked_until is not None
        assert timedelta(29) < held.locked_until - datetime.now(UTC) < timedelta(31)
        with pytest.raises(Locked, match="is locked until"):
            store.delete(key)
    store.delete(proof)
    assert keys(store, "postgres/") == sorted([data, manifest])


def test_a_legal_hold_keeps_an_object_until_it_is_lifted(buckets: str) -> None:
    locking = make_bucket(buckets, ObjectLockEnabledForBucket=True)
    store, owner = open_quickly(locking), admin(buckets)
    store.put_new("a/x", b"1")
    for status in ("ON", "OFF"):
        owner.put_object_legal_hold(Bucket=locking.bucket, Key="a/x", LegalHold={"Status": status})
        if status == "ON":
            held = store.head("a/x")
            assert held is not None and held.locked_until == FOREVER
            with pytest.raises(Locked, match="legal hold"):
                store.delete("a/x")
    store.delete("a/x")
    assert store.head("a/x") is None
    store.put_new("a/x", b"2")


def test_what_is_locked_stays_whole_when_copies_are_forgotten(buckets: str) -> None:
    locking = make_bucket(buckets, ObjectLockEnabledForBucket=True)
    store, name = open_quickly(locking, lock_days=1), "backup-20260101-000000"
    for key in (names.data_key("s", "d", name), names.manifest_key("s", "d", name)):
        store.put_new(key, b"{}")
    done = forget.forget(store, inventory.take(store, "s", "d"), [name])
    assert done.gone == [] and "is locked until" in done.kept[name]
    assert len(keys(store, names.prefix("s", "d"))) == 2


def test_the_key_of_a_sealed_copy_is_locked_as_the_copy_is(buckets: str) -> None:
    recipients = tuple(str(Identity.generate().to_public()) for _ in range(2))
    locking = make_bucket(buckets, ObjectLockEnabledForBucket=True)
    store = open_quickly(locking, lock_days=30, recipients=recipients)
    made = keep_copy(store, 1)
    (key,) = keys(store, names.keys_prefix("shop", "app", made.name))

    for part in (key, made.data.key, names.manifest_key("shop", "app", made.name)):
        held = store.head(part)
        assert held is not None and held.locked_until is not None
        assert timedelta(29) < held.locked_until - datetime.now(UTC) < timedelta(31)
        with pytest.raises(Locked):
            store.delete(part)


def test_a_copy_stays_whole_while_only_its_key_is_locked(buckets: str) -> None:
    plain = make_bucket(buckets, ObjectLockEnabledForBucket=True)
    name = "backup-20260101-000000"
    store, locking = open_quickly(plain), open_quickly(plain, lock_days=1)
    for key in (names.data_key("s", "d", name, sealed=True), names.manifest_key("s", "d", name)):
        store.put_new(key, b"{}")
    locking.put_new(f"{names.keys_prefix('s', 'd', name)}0001.age", b"x")
    done = forget.forget(store, inventory.take(store, "s", "d"), [name])
    assert done.gone == [] and "0001.age is locked until" in done.kept[name]
    assert len(keys(store, names.prefix("s", "d"))) == 3


def test_a_lock_without_a_bucket_that_locks_is_refused(buckets: str) -> None:
    store = open_quickly(make_bucket(buckets), lock_days=1)
    with pytest.raises(Refused, match=r"(?i)lock"):
        store.put_new(f"a/backup-20260101-000000{names.MANIFEST_SUFFIX}", b"{}")


def test_objects_are_deleted_one_by_one(store: S3Store, proxy: Proxy) -> None:
    proxy.fail(r"\?delete", faults.answer(403, "AccessDenied"), times=100)
    for key in ("d/1", "d/2"):
        store.put_new(key, b"")
        store.delete(key)
    assert keys(store, "d/") == []
    assert proxy.count("^DELETE") == 2


def test_a_right_that_is_missing_is_named_with_the_bucket(
    store: S3Store, proxy: Proxy, address: S3Address
) -> None:
    store.put_new("d/mine", b"")
    proxy.fail("^DELETE", faults.answer(403, "AccessDenied"))
    with pytest.raises(Refused, match=f"s3:DeleteObject in the bucket {address.bucket}"):
        store.delete("d/mine")


def test_an_address_opens_its_store_and_shows_no_secret(address: S3Address) -> None:
    kept = address.model_copy(update={"secret_access_key": SecretStr(SECRET)})
    store = open_store(kept)
    assert isinstance(store, S3Store)
    assert SECRET not in repr(kept) + str(vars(store)) + str(vars(store.link))
