"""Children and their ends: what survives a child ends with it, and nobody else does."""

import os
import signal
import subprocess
import sys
import time

from devstack.children import kill_rest

LEAVES_A_WORKER = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"


def test_the_workers_of_a_child_that_has_ended_are_killed():
    child = subprocess.Popen([sys.executable, "-c", LEAVES_A_WORKER], start_new_session=True, stdout=subprocess.PIPE)
    worker = int(child.communicate()[0])
    os.kill(worker, 0)

    kill_rest(child.pid)

    state = f"/proc/{worker}/stat"
    while os.path.exists(state) and open(state).read().rpartition(")")[2].split()[0] != "Z":  # noqa: SIM115
        time.sleep(0.01)


def test_a_stranger_that_was_given_the_number_of_a_child_lives_on():
    """Numbers come again: after some ten thousand processes a group of our child's number may be anybody's."""
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)

    kill_rest(stranger.pid)

    time.sleep(0.1)
    assert stranger.poll() is None
    stranger.send_signal(signal.SIGKILL)
    stranger.wait()
