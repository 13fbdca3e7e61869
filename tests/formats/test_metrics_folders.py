"""Folders of two benchmarks as frames, before and during a fault; the truth beside them."""

from __future__ import annotations

import pandas as pd
import pytest

import aiops_lab as lab

T0 = 1_614_800_000


def rcaeval(folder, case="adservice_cpu/1", table="simple_metrics.csv", inject=str(T0 + 5)):
    case = folder / case
    case.mkdir(parents=True)
    rows = [f"{T0 + s},{s},{0.001 * s},{s if s != 3 else ''}" for s in range(10)]
    head = "time,adservice_cpu,ts-order-service_latency-90,frontend_container-fs-reads-total"
    (case / table).write_text("\n".join([head, *rows]) + "\n")
    if inject is not None:
        (case / "inject_time.txt").write_text(inject + "\n")
    return case


def test_a_case_of_rcaeval_is_split_at_its_injection(tmp_path):
    metrics = lab.read_metrics(rcaeval(tmp_path))
    assert metrics.normal.index.tolist() == [T0 + s for s in range(5)]
    assert metrics.abnormal.index.tolist() == [T0 + s for s in range(5, 10)]
    assert metrics.normal.columns.tolist() == [
        ("adservice", "cpu", "value"),
        ("ts-order-service", "latency", "p90"),
        ("frontend", "container-fs-reads-total", "value"),
    ]
    assert metrics.abnormal["adservice", "cpu", "value"].tolist() == [5, 6, 7, 8, 9]
    assert metrics.normal.iloc[3, 2] != metrics.normal.iloc[3, 2]  # empty: not known


@pytest.mark.parametrize("case", ["adservice_cpu/1", "adservice_cpu", "re1ob_adservice_cpu_1"])
def test_the_name_of_a_case_tells_the_truth(case, tmp_path):
    truth = lab.read_metrics(rcaeval(tmp_path, case)).truth
    assert truth.to_numpy().tolist() == [
        ["adservice", "cpu", pd.Timestamp(T0 + 5, unit="s", tz="UTC")]
    ]


def test_a_window_of_ones_own_counts_before_that_on_record(tmp_path):
    metrics = lab.read_metrics(rcaeval(tmp_path), since=T0 + 2, until=T0 + 4)
    assert metrics.normal.index.tolist() == [T0, T0 + 1]
    assert metrics.abnormal.index.tolist() == [T0 + 2, T0 + 3]


LONG = """\
timestamp,cmdb_id,kpi_name,value
{0},Tomcat01,CPULoad,1
{1},Tomcat01,CPULoad,3
{2},Tomcat01,CPULoad,5
{3},Mysql01,Reads,7
"""
WIDE = "timestamp,rr,sr,cnt,mrt,tc\n{0},100,99,20,55.5,ServiceTest1\n"
TELECOM = """\
itemid,name,bomc_id,timestamp,value,cmdb_id
9,CPU_util_pct,ZJ-1,{0}000,22,os_001
9,CPU_util_pct,ZJ-1,{2}000,24,os_001
"""
TELECOM_APP = (
    "serviceName,startTime,avg_time,num,succee_num,succee_rate\nosb_001,{0}000,0.3,1,1,1\n"
)
MARKET = "service,timestamp,rr,sr,mrt,count\nadservice-grpc,{0},100.0,99.0,2.4,61\n"
RECORD = """\
level,component,timestamp,datetime,reason
pod,Mysql02,{4},2021-03-04 03:00:00,high memory usage
pod,Tomcat01,{2},2021-03-04 03:34:40,high CPU usage
"""
START = T0 // 60 * 60
TIMES = (START, START + 30, START + 60, START + 120, START + 86_400 * 2)


def openrca(folder, record=RECORD, **files):
    day = folder / "Bank" / "telemetry" / "2021_03_04"
    (day / "metric").mkdir(parents=True)
    for name, text in files.items():
        (day / "metric" / f"{name}.csv").write_text(text.format(*TIMES))
    if record is not None:
        (folder / "Bank" / "record.csv").write_text(record.format(*TIMES))
    return day


def test_a_day_of_openrca_has_a_row_a_minute(tmp_path):
    metrics = lab.read_metrics(openrca(tmp_path, metric_container=LONG, metric_app=WIDE))
    assert metrics.normal.index.tolist() == [START]
    assert metrics.normal["Tomcat01", "CPULoad", "value"].tolist() == [2]  # the mean of 1 and 3
    assert metrics.normal["ServiceTest1", "mrt", "value"].tolist() == [55.5]
    assert metrics.abnormal["Tomcat01", "CPULoad", "value"].iloc[0] == 5
    assert metrics.abnormal["Mysql01", "Reads", "value"].iloc[1] == 7


def test_its_truth_are_the_failures_of_that_day(tmp_path):
    truth = lab.read_metrics(openrca(tmp_path, metric_container=LONG)).truth
    start = pd.Timestamp(TIMES[2], unit="s", tz="UTC")
    assert truth.to_numpy().tolist() == [["Tomcat01", "high CPU usage", start]]


def test_the_columns_of_all_three_systems_are_known(tmp_path):
    day = openrca(tmp_path, metric_node=TELECOM, metric_app=TELECOM_APP, metric_service=MARKET)
    metrics = lab.read_metrics(day)
    assert metrics.normal.index.tolist() == [START]
    assert {(node, name) for node, name, _ in metrics.normal.columns} == {
        ("os_001", "CPU_util_pct"),
        *(("osb_001", name) for name in ("avg_time", "num", "succee_num", "succee_rate")),
        *(("adservice-grpc", name) for name in ("rr", "sr", "mrt", "count")),
    }


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda f: f / "no", "path must be the folder of a case or of a day"),
        (lambda f: f, "path must hold metric/ or one of simple_metrics.csv"),
        (lambda f: rcaeval(f, inject=None), "since must be given where no fault is recorded"),
        (lambda f: rcaeval(f, inject="soon"), "inject_time.txt of 1 must be Unix seconds"),
        (lambda f: rcaeval(f, inject="1"), "since must leave rows before it in 1"),
        (lambda f: rcaeval(f, inject=str(T0 + 99)), "since must leave rows since it in 1"),
        (lambda f: openrca(f), "path must hold CSV files of metrics in metric/"),
        (lambda f: openrca(f, record=None, m=LONG), "since must be given"),
        (lambda f: openrca(f, m="a,b\n1,2\n"), "m.csv must have one of the columns timestamp"),
        (lambda f: openrca(f, m=LONG.replace(",7", ",x")), "m.csv, line 5: value must be a number"),
        (lambda f: openrca(f, m=""), "m.csv must be CSV, got"),
        (lambda f: "s3://bucket/case", "path must be a local file"),
    ],
)
def test_what_is_no_case_is_refused(make, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        lab.read_metrics(make(tmp_path))
