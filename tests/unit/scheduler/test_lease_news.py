"""lease_news.py: holders hear once of what changed and came free, and are forgotten when they are gone."""

from lambent.scheduler.lease_news import HolderNews


def test_a_change_is_told_to_each_holder_once() -> None:
    news = HolderNews()
    news.met("a", 0.0)
    news.met("b", 0.0)
    news.changed("f")
    assert news.take("a") == (("f",), ())
    assert news.take("a") == ((), ())
    assert news.take("b") == (("f",), ())


def test_who_was_refused_hears_of_free_slots_of_the_pool_or_of_the_function() -> None:
    news = HolderNews()
    news.met("a", 0.0)
    news.starved("reserved", "a", pooled=False)
    news.starved("one", "a", pooled=True)
    news.starved("two", "a", pooled=True)
    news.came_free("else", pooled=True)
    assert sorted(news.take("a")[1]) == ["one", "two"]
    news.came_free("reserved", pooled=False)
    assert news.take("a")[1] == ("reserved",)


def test_who_lags_far_behind_is_told_to_forget_all() -> None:
    news = HolderNews()
    news.met("a", 0.0)
    for number in range(3000):
        news.changed(f"f{number}")
    assert news.take("a")[0] == ("*",)


def test_holders_that_vanished_are_forgotten() -> None:
    news = HolderNews()
    news.met("a", 0.0)
    news.starved("uid", "a", pooled=False)
    news.changed("f")
    news.prune(61.0)
    assert len(news) == 0
    news.came_free("uid", pooled=False)
    assert news.take("a") == ((), ())
