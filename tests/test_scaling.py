"The simulation of a list of jobs, fed with what each takes, against what one and two workers take for all."
import time

import pytest

from edgecar.engine import open_engine
from edgecar.jobs import JobKind
from edgecar.scaling import Workload, simulated_seconds

pytestmark = [pytest.mark.scale, pytest.mark.timed]
NAPS = [.02 + .06*(i*37 % 11)/10 for i in range(120)]   # s; a nap takes as long on a machine that is busy


@pytest.mark.parametrize('workers', [1, 2])
def test_it_says_what_workers_of_this_machine_take(workers):
    with open_engine(workers, 'local') as engine:
        nap = JobKind('time:sleep', 'nap')
        engine.run(nap, [.3]*workers)   # all are there
        began = time.perf_counter()
        engine.run(nap, NAPS)
        took = time.perf_counter() - began
    work = Workload(jobs=len(NAPS), job_s=sum(NAPS)/len(NAPS), start_s=0., give_s=.0005, answer_kb=.05)
    assert simulated_seconds(work, workers, NAPS) == pytest.approx(took, rel=.15)
