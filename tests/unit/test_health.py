from testground import health
from testground.errors import RunError
from testground.health import Check


async def _good():
    return True, "fine"


async def _bad():
    return False, "missing"


async def _broken():
    raise RunError("boom")


async def _mend():
    return "fixed it"


async def _cannot():
    raise OSError("read-only")


CHECKS = [Check("good", _good, _mend), Check("bad", _bad, _mend), Check("err", _broken, _mend)]


async def test_without_fix():
    report = await health.examine(CHECKS, fix=False)
    assert [(item.name, item.status) for item in report.checks] == [
        ("good", "ok"),
        ("bad", "failed"),
        ("err", "aborted"),
    ]
    assert report.checks[2].message.endswith("error: boom")
    assert report.wire()["Fixes"] == [{"Name": "bad", "Status": "omitted", "Message": ""}]
    assert report.checks_failed


async def test_with_fix():
    report = await health.examine([*CHECKS, Check("stuck", _bad, _cannot)], fix=True)
    assert [(item.name, item.status, item.message) for item in report.fixes] == [
        ("good", "unnecessary", ""),
        ("bad", "ok", "fixed it"),
        ("err", "omitted", ""),
        ("stuck", "failed", "read-only"),
    ]
    assert report.fixes_failed


async def test_a_mended_check_is_not_a_failed_one():
    report = await health.examine([Check("bad", _bad, _mend)], fix=True)
    assert not report.checks_failed and not report.fixes_failed


async def test_text_and_wire_forms():
    empty = await health.examine([], fix=True)
    assert str(empty) == "No checks made.\nNo fixes applied."
    assert empty.wire() == {"Checks": None, "Fixes": None}
    report = await health.examine(CHECKS[:2], fix=True)
    assert str(report) == (
        "Checks:\n- good: ok; fine\n- bad: failed; missing\nFixes:\n- good: unnecessary; \n- bad: ok; fixed it"
    )
    assert health.parse(report.wire()) == report
    assert health.parse({"checks": None, "FIXES": None}) == health.Report((), ())
