"""A cluster in memory and in virtual time, over the code that ships, with faults drawn from a seed.

What is real: the log (SQLite, whose file is in memory), its transactions, projections, the use cases of `oscd.node`
with real ciphers, everything of `oscd.replication` that does no I/O, and the feed that subscribers are served from.
What is not: threads, locks, disks, sockets and clocks. `link.py` and `node.py` stand where `stream.py`, `source.py`
and `asking.py` stand in a process.

| Module | Owns |
|---|---|
| `world.py` | virtual time and chance; counts of what happened |
| `network.py` | connections that are cut, slow, and carry bytes wrongly; partitions; late bytes of dead processes |
| `log.py`, `node.py`, `link.py`, `cluster.py` | nodes: disks, processes, both ends of links, copies put back, wipes |
| `writing.py` | what users ask for, under two keys, and that none is let through who must not |
| `reader.py` | subscribers that move between nodes, with the place of their last whole write |
| `ledger.py` | what really happened, merged by a rule of its own |
| `judge.py` | what must hold of nodes at rest |
| `scenario.py` | one run: faults until they stop, then rest and judgement |
| `batch.py` | many runs on all cores, and how a failing one is seen again |
| `ownership.py`, `liar.py`, `lies.py`, `court.py` | two keys trying everything; a peer that lies to honest nodes |

    SIMULATOR_RUNS=20000 .venv/bin/python -m pytest tests/simulator        more runs
    SIMULATOR_SEED=4711 SIMULATOR_RUNS=1 .venv/bin/python -m pytest …      one run again

A seed decides a run on one version of the code; any change to what is drawn, and when, makes it another run.
"""
