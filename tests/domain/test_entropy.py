"""Bytes are given out only once, to threads and to the child after a fork."""

import os
import threading
import uuid

from domain.entropy import random_bytes, uuid4
from domain.log import uuid7
from domain.log.envelope import uuid7s


def test_threads_are_never_given_the_same_bytes() -> None:
    seen: list[bytes] = []

    def take() -> None:
        seen.extend([random_bytes(10) for _ in range(3_000)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 12_000
    assert {len(piece) for piece in seen} == {10}
    assert len(random_bytes(100_000)) == 100_000


def test_a_forked_child_has_bytes_of_its_own() -> None:
    random_bytes(1)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(send, random_bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(receive, 32)
    os.close(receive)
    os.close(send)
    assert len(theirs) == 32
    assert random_bytes(32) != theirs


def test_ids_are_version_7_uuids_in_the_order_of_time() -> None:
    ids = [uuid.UUID(uuid7()) for _ in range(2_000)] + list(map(uuid.UUID, uuid7s(2_000)))
    assert {(i.version, i.variant) for i in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == len(ids)
    stamps = [i.int >> 80 for i in ids]
    assert stamps == sorted(stamps)


def test_ids_of_things_are_version_4_uuids() -> None:
    ids = [uuid.UUID(uuid4()) for _ in range(2_000)]
    assert {(i.version, i.variant) for i in ids} == {(4, uuid.RFC_4122)}
    assert len({str(i)[:8] for i in ids}) >= 1_999  # two of 2,000 share eight digits once in 2,000
