from lambent.executor import log_lines
from lambent.kernel.models import Outcome, Report


def report(outcome: Outcome = Outcome.SUCCESS, init_ms: float | None = None) -> Report:
    return Report(outcome, 12.34, 13, init_ms, 128, 40 << 20)


def test_report_of_a_warm_success() -> None:
    assert log_lines.report("id", report(), None) == (
        "REPORT RequestId: id\tDuration: 12.34 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB"
        "\tMax Memory Used: 40 MB\t"
    )


def test_report_of_a_cold_start_names_init() -> None:
    assert log_lines.report("id", report(init_ms=110.55), None).endswith("\tInit Duration: 110.55 ms\t")


def test_report_of_a_timeout_and_of_a_crash_name_their_status() -> None:
    assert log_lines.report("id", report(Outcome.TIMEOUT), "Sandbox.Timedout").endswith("\tStatus: timeout\t")
    crash = log_lines.report("id", report(Outcome.CRASH), "Runtime.ExitError")
    assert crash.endswith("\tStatus: error\tError Type: Runtime.ExitError\t")


def test_a_handled_function_error_has_no_status() -> None:
    assert "Status" not in log_lines.report("id", report(Outcome.ERROR), "ValueError")


def test_lines_are_cut_across_reads_and_the_last_one_is_flushed() -> None:
    lines: list[str] = []
    cutter = log_lines.LineCutter(lines.append)
    cutter.feed(b"one\ntw")
    cutter.feed(b"o\nthr\xffee")
    cutter.flush()
    assert lines == ["one", "two", "thr\ufffdee"]


def test_a_line_without_end_is_cut_at_its_bound() -> None:
    lines: list[str] = []
    cutter = log_lines.LineCutter(lines.append)
    cutter.feed(b"x" * (log_lines.MAX_LINE * 2 + 1))
    assert [len(line) for line in lines] == [log_lines.MAX_LINE, log_lines.MAX_LINE]


def test_the_tail_keeps_the_last_4096_bytes() -> None:
    tail = log_lines.Tail()
    for number in range(1000):
        tail.add(f"line {number:04d}")
    value = tail.value()
    assert len(value) == 4096
    assert value.endswith(b"line 0998\nline 0999\n")


def test_the_tail_cuts_one_long_line() -> None:
    tail = log_lines.Tail()
    tail.add("x" * 10_000)
    assert tail.value() == b"x" * 4095 + b"\n"


def test_a_flood_of_line_ends_is_a_bounded_number_of_lines_and_loses_nothing() -> None:
    lines: list[str] = []
    cutter = log_lines.LineCutter(lines.append)
    cutter.feed(b"x\n" * 30_000 + b"end")
    cutter.flush()
    assert len(lines) == log_lines.MAX_LINES + 2
    assert "\n".join(lines) == "x\n" * 30_000 + "end"
