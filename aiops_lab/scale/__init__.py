"""How are more spans replayed than one machine can hold? From many files, on many workers.

A folder holds partitions: Parquet files by time, in which a trace is never split.
`write_partitions` makes them, and a late span goes where its trace is. What a replay asks of its
spans is asked of each partition by the pure functions of `tasks`; `Workers` runs these, here or on
the workers of Dask. Their results are small, and `PartitionedRecording` hands them to the very
pipeline that a single process runs::

    partition   1          2          3          ...      on the workers, each by itself
                |          |          |
    survey      samples of names, the windows that it touches
                +----------+----------+
                |  names and codes for all; the windows that several partitions touch
                +----------+----------+
    count       counts by window and endpoint, first calls, the requests of shared windows
                +----------+----------+
                |  detection, window after window: each depends on the past      in one process
    evidence    the requests that show an anomaly
                |  grouping; the spans around an incident are read for its causes
    verdict     an incident a task, from the partitions that it touches

The result equals that of `aiops_lab.replay` on all spans in one frame, to the last bit:

- Codes and names depend on the order in which endpoints, methods and addresses come first. So a
  partition hands over the first span of each kind, with the server span below a call; the names are
  learned from these samples, and each partition is encoded with them.
- Sums of floating point numbers depend on their order. A window that a single partition touches is
  summed there; the requests of one that several touch are sent, and summed in the order of a frame.
- Requests that are older than ``timeout_s`` are sent, too: they count in each window that they hang
  in.
- Causes look at the spans of some minutes alone, so that these are read, from whichever partition.

What a worker has done is taken from it at once, and kept by the process that asked for it. A worker
that dies costs the tasks that it had begun, which others do again, and nothing that was collected.
"""
