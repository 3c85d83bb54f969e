#!/usr/bin/env python3
"""A Slurm cluster in a box: the real slurmctld and N real slurmd as ordinary
processes of this user, on this machine, with a directory and ports of their own.

    with Box(nodes=4) as box:
        subprocess.run(["srun", "-N4", "hostname"], env=box.env)

    tests/pod/box.py --nodes 4 COMMAND...     run a command inside one

Nodes are dgx-001 to dgx-N, with 8 processors and 8 GPUs each. A GPU is a
character device that nobody opens; where none can be had, nodes have no GPUs
and `box.gpus` is 0. There is a partition `batch`, and `urgent`, whose jobs end
those of `batch` when they need their nodes.

It needs no root, munge, cgroup or systemd. All nodes share one host name, clock,
/dev/shm and network: what tells them apart is SLURMD_NODENAME. Boxes do not see
each other. At the end every process of the box is gone, those of its jobs too,
and so are its files."""
import argparse
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from pod import accounting  # noqa: E402

GPUS = 8
CPUS = 8
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
# Below the ports that the kernel hands out; a box takes one block.
PORT_FIRST, PORT_LAST, PORT_BLOCK = 20000, 32000, 256
START_S = 120
END_S = 30

CONFIG = """\
ClusterName=box
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={uid}
SlurmdUser={uid}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={dir}/state
SlurmctldPidFile={dir}/run/slurmctld.pid
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdSpoolDir={dir}/spool/%n
SlurmdPidFile={dir}/run/%n.pid
SlurmdLogFile={dir}/log/%n.log
SlurmdTimeout={node_timeout_s}
SlurmctldTimeout=30
ReturnToService=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=3600
MailProg=/bin/true
{gres}NodeName=DEFAULT CPUs={cpus} RealMemory=2000 {node_gres} State=UNKNOWN
NodeName=dgx-[001-{nodes:03}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}]
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing(with_accounting=False):
    """Slurm's programs that this machine lacks."""
    wanted = PROGRAMS + accounting.PROGRAMS if with_accounting else PROGRAMS
    return [name for name in wanted if not program(name)]


def program(name):
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")


class Ports:
    """A block of ports. The name of a socket in memory keeps other boxes away from
    it for as long as this process lives; a test bind, all other programs."""

    def __init__(self, count):
        blocks = list(range(PORT_FIRST, PORT_LAST, PORT_BLOCK))
        random.SystemRandom().shuffle(blocks)
        for self.first in blocks:
            self.lock = socket.socket(socket.AF_UNIX)
            try:
                self.lock.bind(f"\0pioche-box-{self.first}")
                if all(self.is_free(self.first + i) for i in range(count)):
                    return
            except OSError:
                pass
            self.lock.close()
        raise RuntimeError(f"no block of {count} free ports from {PORT_FIRST} to {PORT_LAST}")

    @staticmethod
    def is_free(port):
        with socket.socket() as s:
            try:
                s.bind(("", port))
                return True
            except OSError:
                return False

    def close(self):
        self.lock.close()


def processes():
    """All processes: pid -> (parent, environment as a list of bytes); zombies not."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                state, parent = f.read().rsplit(b")", 1)[1].split()[:2]
            with open(f"/proc/{name}/environ", "rb") as f:
                environ = f.read().split(b"\0")
        except OSError:
            continue
        if state not in (b"Z", b"X"):
            found[int(name)] = (int(parent), environ)
    return found


class Box:
    def __init__(self, nodes=4, node_timeout_s=10, config="", with_accounting=False):
        """`config`: further lines of slurm.conf, which outdo those above."""
        self.nodes = [f"dgx-{i:03}" for i in range(1, nodes + 1)]
        self.node_timeout_s, self.more, self.with_accounting = node_timeout_s, config, with_accounting
        self.daemons = {}

    # ---- life ----

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="pioche-box-")
        self.ports = None
        try:
            self.ports = Ports(1 + len(self.nodes) + accounting.PORTS)
            self.configure()
            if self.with_accounting:
                accounting.start(self, program, self.port_of_accounting())
            self.start_controller(clean=True)
            for node in self.nodes:
                self.start_node(node)
            self.wait_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill_all()
        if self.ports:
            self.ports.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def configure(self):
        for name in ("state", "run", "log", "spool", "dev"):
            os.mkdir(self.path(name))
        devices = self.devices()
        self.gpus = len(devices)
        host = socket.gethostname().split(".")[0]
        self.write("slurm.conf", CONFIG.format(
            host=host, uid=os.getuid(), dir=self.dir, port=self.ports.first, cpus=CPUS,
            nodes=len(self.nodes), node_timeout_s=self.node_timeout_s,
            first=self.ports.first + 1, last=self.ports.first + len(self.nodes),
            gres="GresTypes=gpu\n" if devices else "",
            node_gres=f"Gres=gpu:h100:{self.gpus}" if devices else "")
            + (accounting.OF_CLUSTER.format(dbd_port=self.port_of_accounting() + 1) if self.with_accounting else "")
            + self.more)
        self.write("cgroup.conf", "")
        self.write("gres.conf", "".join(f"Name=gpu Type=h100 File={d}\n" for d in devices))
        # What a job inherits from its submitter says nothing of another cluster.
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("SLURM", "SBATCH", "SQUEUE", "SCONTROL"))}
        self.env["SLURM_CONF"] = self.path("slurm.conf")

    def port_of_accounting(self):
        return self.ports.first + 1 + len(self.nodes)

    def devices(self):
        made = [self.path(f"dev/gpu{i}") for i in range(GPUS)]
        try:
            for i, path in enumerate(made):
                os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(195, i))
            return made
        except OSError:  # not root, or a container without the right
            terminals = [f"/dev/tty{i}" for i in range(GPUS)]
            return terminals if all(os.path.exists(t) for t in terminals) else []

    # ---- daemons ----

    def start(self, name, arguments):
        log = open(self.path(f"log/{name}.out"), "ab")
        with log:
            self.daemons[name] = subprocess.Popen(
                arguments, env=dict(self.env, PIOCHE_BOX_NODE=name), cwd=self.dir, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)

    def start_controller(self, clean=False):
        """`clean`: forget all jobs."""
        self.start("slurmctld", [program("slurmctld"), "-D"] + (["-c"] if clean else []))

    def start_node(self, node):
        os.makedirs(self.path(f"spool/{node}"), exist_ok=True)
        self.start(node, [program("slurmd"), "-D", "-N", node])

    def kill(self, name):
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def kill_controller(self):
        """SIGKILL; start_controller brings it back with its jobs, as they were saved."""
        self.kill("slurmctld")

    def wait_saved(self, seconds=30):
        """Until the controller has saved what it knows of its jobs now (and of a held
        job of no meaning, which makes it save); that takes
        it some seconds, and what is younger dies with it."""
        since = time.time()
        self.run("sbatch", "--hold", "-o", "/dev/null", "--wrap", "true")  # a change to save
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if os.stat(self.path("state/job_state")).st_mtime > since:
                    return
            except FileNotFoundError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the controller saved nothing in {seconds} s")

    def kill_node(self, node):
        """As when its power fails: slurmd, and whatever runs on the node."""
        self.kill(node)
        self.end(lambda: self.pids(node))

    def wait_idle(self, seconds=START_S):
        """Until the controller answers and every node is ready for work."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    raise RuntimeError(f"{name} ended with {daemon.returncode}:\n{self.tail(name)}")
            seen = self.run("sinfo", "-h", "-N", "-p", "batch", "-o", "%N %t", check=False).stdout.split("\n")
            if sum(line.endswith(" idle") for line in seen) == len(self.nodes):
                return
            time.sleep(0.2)
        raise RuntimeError(f"nodes not idle within {seconds} s: {seen}\n{self.tail('slurmctld')}")

    def tail(self, name):
        text = ""
        for path in (f"log/{name}.log", f"log/{name}.out"):
            if os.path.exists(self.path(path)):
                with open(self.path(path), encoding="utf-8", errors="replace") as f:
                    text += "".join(f.readlines()[-30:])
        return text

    # ---- processes ----

    def pids(self, node=None):
        """Processes of the box, or of one node: daemons, steps, tasks and all that
        they started. Found by their environment, and by their parents."""
        mark = os.fsencode("SLURM_CONF=" + self.path("slurm.conf"))
        names = node and {os.fsencode(f"{variable}={node}")
                          for variable in ("PIOCHE_BOX_NODE", "SLURMD_NODENAME")}
        everything = processes()
        found = {pid for pid, (_, environ) in everything.items()
                 if mark in environ and (not node or names.intersection(environ))}
        while True:
            more = {pid for pid, (parent, _) in everything.items() if parent in found} - found
            if not more:
                return sorted(found - {os.getpid()})
            found |= more

    def end(self, pids, seconds=END_S):
        """SIGKILL until there are no more."""
        deadline = time.monotonic() + seconds
        while left := pids():
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes do not die of SIGKILL: {left}")
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for daemon in self.daemons.values():
                daemon.poll()
            time.sleep(0.02)

    def kill_all(self):
        """Clients that somebody started with `env` and that still run die too."""
        if not os.path.exists(self.path("slurm.conf")):
            return
        self.end(self.pids)
        for daemon in self.daemons.values():
            daemon.wait()
        self.daemons.clear()

    # ---- what tests ask ----

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def run(self, *command, check=True, timeout=120, **options):
        """A command inside the box; its output as text."""
        options.setdefault("env", self.env)
        return subprocess.run(command, check=check, timeout=timeout, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, **options)

    def job(self, job_id):
        """What `scontrol show job` says, as a dictionary; None: unknown to the controller."""
        shown = self.run("scontrol", "-o", "show", "job", str(job_id), check=False)
        return dict(word.split("=", 1) for word in shown.stdout.split() if "=" in word) or None

    def jobs(self):
        """Ids of all jobs that the controller remembers."""
        return self.run("squeue", "-h", "-t", "all", "-o", "%i").stdout.split()


def main():
    parser = argparse.ArgumentParser(description="Run a command inside a Slurm cluster in a box.")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="default: a shell")
    args = parser.parse_args()
    if missing():
        sys.exit(f"box: {', '.join(missing())}: not found")
    with Box(args.nodes) as box:
        print(f"box: {args.nodes} nodes, {box.gpus} GPUs each, SLURM_CONF={box.env['SLURM_CONF']}",
              file=sys.stderr, flush=True)
        status = subprocess.run(args.command or [os.environ.get("SHELL", "/bin/sh")], env=box.env,
                                check=False).returncode
    sys.exit(status)


if __name__ == "__main__":
    main()
