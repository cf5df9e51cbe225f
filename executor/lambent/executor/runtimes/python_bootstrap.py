"""What the interpreter of a function runs, copied as bootstrap.py into the runtime folder: it makes `sys.path`
as AWS's managed runtimes have it and starts the unmodified runtime client.

AWS: /var/task, /opt/python/lib/python3.x/site-packages, /opt/python, /var/runtime, standard library. The client
is imported before the function's folders are on the path, so a module of the function's that is named like one
of the standard library cannot break it; it wins over /var/runtime (boto3) for the function itself.

The interpreter is started with -S, so that packages which happen to be installed on this machine are not
there; what `site` does besides is done here. With a socket as descriptor 3 it is a zygote at first: a
process without any function, from which those of functions are forked. Runs on every Python 3 that a
runtime names: no newer syntax.
"""

import os
import site
import stat
import sys

_customized = True  # whether this machine may have a sitecustomize


def _is_zygote() -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(3).st_mode)
    except OSError:
        return False


def _wait_for_function() -> None:
    """Returns in a forked process that is a function's from then on."""
    global _customized
    import awslambdaric.__main__  # noqa: F401

    _customized = any(finder.find_spec("sitecustomize", None) for finder in sys.meta_path)
    plain = set(sys.modules)
    sys.path.append("/home")  # Lambent's sources, as long as this takes
    from lambent.executor.drivers.sandbox import zygote

    sys.path.remove("/home")
    zygote.serve(plain, begin)


def _reseed() -> None:
    """What is restored from one snapshot must not draw the same numbers."""
    import random

    random.seed()
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)


def run() -> None:
    """Never returns but by the client's exit."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    if _is_zygote():
        _wait_for_function()
    begin()


def begin() -> None:
    """Starts the client for the function that the variables name."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        from snapshot_restore_py import register_after_restore

        register_after_restore(_reseed)  # before any of the function's: they run in this order
    if _customized or "PYTHONPATH" in os.environ:
        site.execsitecustomize()
    from awslambdaric.__main__ import main

    task = os.environ["LAMBDA_TASK_ROOT"]
    folders = [task]
    # As on AWS: a function that sets its own PYTHONPATH gets no /opt/python unless it names it.
    if "PYTHONPATH" not in os.environ:
        versions = [f"{sys.version_info.major}.{sys.version_info.minor}"]
        declared = os.environ.get("AWS_EXECUTION_ENV", "").rpartition("python")[2]
        if declared and declared not in versions:  # compatible mode: layers are laid out for the declared one
            versions.append(declared)
        folders += [f"/opt/python/lib/python{version}/site-packages" for version in versions]
        folders.append("/opt/python")
        os.environ["PYTHONPATH"] = os.environ["LAMBDA_RUNTIME_DIR"]
    sys.path[:0] = folders
    for folder in folders:
        if os.path.isdir(folder):  # else it would be put on the path a second time
            site.addsitedir(folder)  # for its .pth files
    main([sys.argv[0], os.environ["_HANDLER"]])


if __name__ == "__main__":
    run()
