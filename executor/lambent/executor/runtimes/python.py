"""How a python3.x runtime is started, and the variables that AWS's has.

AWS: "Defined runtime environment variables"; where AWS has /var/lang, here is the interpreter's own prefix.
"""

from pathlib import Path

from lambent.executor.runtimes.family import RUNTIME_DIR, TASK_ROOT, RuntimeCommand
from lambent.executor.runtimes.interpreters import Interpreter
from lambent.executor.runtimes.packages import LAUNCHER


def command(runtime: str, handler: str, interpreter: Interpreter, runtime_dir: Path) -> RuntimeCommand:
    """Starts the unmodified runtime client. The handler travels in _HANDLER, as on AWS, where a wrapper script
    may change it; PYTHONPATH is left to the launcher, which has to see whether the function sets its own."""
    prefix = interpreter.base_prefix
    outside = not prefix.is_relative_to("/usr")
    libraries = [
        *([f"{prefix}/lib"] if outside else []),
        *("/lib64", "/usr/lib64", RUNTIME_DIR, f"{RUNTIME_DIR}/lib", TASK_ROOT, f"{TASK_ROOT}/lib", "/opt/lib"),
    ]
    path = [*([f"{prefix}/bin"] if outside else []), "/usr/local/bin", "/usr/bin/", "/bin", "/opt/bin"]
    machine = {
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": ":".join(path),
        "TZ": ":UTC",
    }
    return RuntimeCommand(
        argv=(str(interpreter.executable), "-S", f"{RUNTIME_DIR}/{LAUNCHER}"),
        prefixes=interpreter.prefixes,
        runtime_dir=runtime_dir,
        env={
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
            "LAMBDA_TASK_ROOT": TASK_ROOT,
            "LAMBDA_RUNTIME_DIR": RUNTIME_DIR,
            **machine,
            "_HANDLER": handler,
        },
        version_text=f"python:{interpreter.version_text}",
        fork_env=machine,
    )
