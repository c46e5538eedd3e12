from leukoscope.report.page import write_report


def test_a_report_is_written(run, cellset):
    path = write_report(run, cellset=cellset)
    assert path.stat().st_size > 10_000
