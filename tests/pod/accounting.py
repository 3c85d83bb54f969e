"""Slurm's accounting for a box: the real slurmdbd, and a MariaDB of its own behind it."""
import os
import secrets
import subprocess
import time

PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacct", "sacctmgr")
START_S = 60

DATABASE = ("--no-defaults", "--socket={dir}/db.sock")
SERVER = (*DATABASE, "--datadir={dir}/db", "--bind-address=127.0.0.1", "--port={port}",
          "--pid-file={dir}/run/mariadbd.pid", "--innodb-buffer-pool-size=64M")

CONFIG = """\
AuthType=auth/none
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={port}
StorageUser=slurm
StoragePass={word}
StorageLoc=slurm
LogFile={dir}/log/slurmdbd.log
PidFile={dir}/run/slurmdbd.pid
"""

# What slurm.conf gets.
OF_CLUSTER = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={dbd_port}
"""

PORTS = 2


def start(box, program, first_port):
    """Both daemons, as daemons of the box; `program` finds one by name."""
    told = {"dir": box.dir, "port": first_port, "dbd_port": first_port + 1, "word": secrets.token_hex(16),
            "user": box.run("id", "-un").stdout.strip()}
    as_root = ["--user=root"] if os.getuid() == 0 else []
    box.run(program("mariadb-install-db"), "--no-defaults", f"--datadir={box.path('db')}", "--skip-test-db",
            "--auth-root-authentication-method=normal", *as_root)
    box.start("mariadbd", [program("mariadbd"), *(a.format(**told) for a in SERVER), *as_root])
    client = [program("mariadb"), *(a.format(**told) for a in DATABASE), "-u", "root", "-e"]
    wait_for(box, "mariadbd", [*client, "SELECT 1"])
    box.run(*client, "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{word}';"
                     " GRANT ALL ON *.* TO slurm@'127.0.0.1'".format(**told))
    box.write("slurmdbd.conf", CONFIG.format(**told))
    os.chmod(box.path("slurmdbd.conf"), 0o600)  # it refuses another mode
    box.start("slurmdbd", [program("slurmdbd"), "-D"])
    wait_for(box, "slurmdbd", [program("sacctmgr"), "-i", "add", "cluster", "box"])


def wait_for(box, name, command):
    """Until the daemon answers."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            said = box.run(*command, check=False, timeout=START_S)
        except subprocess.TimeoutExpired as late:
            raise RuntimeError(f"{name} does not answer:\n{box.tail(name)}") from late
        if said.returncode == 0:
            return
        if time.monotonic() > deadline or box.daemons[name].poll() is not None:
            raise RuntimeError(f"{name} is not there: {said.stderr}\n{box.tail(name)}")
        time.sleep(0.2)
