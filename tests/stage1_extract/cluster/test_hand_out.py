"""Every shard is handed out until it is written, or has failed often enough."""

from stage1_extract.cluster.hand_out import MOST_FAILURES, MOST_LOSSES, HandOut


def test_every_shard_is_handed_out_once() -> None:
    work = HandOut(iter([4, 7]))
    assert [work.next("a"), work.next("b"), work.next("a")] == [4, 7, None]
    assert not work.is_over()
    work.finished(4)
    work.finished(7)
    assert work.is_over()


def test_without_a_worker_that_asks_it_is_known_whether_there_is_work() -> None:
    work = HandOut(iter([4]))
    assert not work.is_over()
    assert work.next("a") == 4
    work.finished(4)
    assert work.is_over()


def test_a_shard_that_failed_comes_last_and_is_given_up_the_third_time() -> None:
    work = HandOut(iter([0, 1, 2]))
    order, firsts = [], []
    while (shard := work.next("a")) is not None:
        order.append(shard)
        if shard == 0:
            firsts.append(work.failed(0, "a", f"error {len(firsts)}"))
        else:
            work.finished(shard)
    assert order == [0, 1, 2, 0, 0]
    assert firsts == [True, False, False]
    assert work.given_up == {0: f"error {MOST_FAILURES - 1}"}
    assert work.is_over()


def test_a_shard_that_failed_is_tried_at_another_worker_if_one_asks() -> None:
    work = HandOut(iter([0, 1]))
    work.next("a"), work.next("b")
    work.failed(0, "a", "error")
    work.failed(1, "b", "error")
    assert work.next("a") == 1
    work.failed(1, "a", "error")
    assert work.next("a") == 0  # although it failed here: nobody else asks


def test_the_death_of_a_worker_is_no_failure_of_its_shard() -> None:
    work = HandOut(iter([0, 1]))
    work.next("a"), work.next("b")
    work.failed(1, "b", "error")
    for _ in range(MOST_LOSSES - 1):
        work.lost(0)
        assert work.next("b") == 0  # 1 failed there
    assert not work.given_up
    work.lost(0)
    assert work.given_up == {0: f"{MOST_LOSSES} workers died while they had it"}
