"""The process that forks environments, apart from the server, because only a single-threaded process without
event loop or open files can be forked and unshared safely. How it forks, and why so, is in `forking`.

Started by the driver as a plain interpreter without site-packages and environment; standard library only.
Requests, each with the start's channel: {} [body, channel, output] an environment, body as `contain.run`
and `rootfs.complete` read it; {"zygote": true} [body, channel, output, control] a zygote; {"trees": {place:
path}} [channel, pidfd] these trees, mounted where that process sees them, which has no power to: {"step":
"mounted"} or {"error": text} goes to whoever holds the other end; without trees what lies there goes. Answers
besides `Forker`'s: {"spawner": pid} with a pidfd, {"fatal": text, "traceback": text}.
"""

import os
import signal
import socket
import sys
import traceback
from typing import Any

from lambent.executor.drivers.sandbox import contain, rootfs, seccomp, wire
from lambent.executor.drivers.sandbox import syscalls as sys_
from lambent.executor.drivers.sandbox.forking import Forker, report


class Spawner(Forker):
    """The loop of the spawner process."""

    def __init__(self, control: socket.socket, folder: str) -> None:
        super().__init__(control, folder)
        self._folder = folder
        self._filter = sys_.Filter(seccomp.program())
        self._templates: dict[str, str] = {}
        self._images: dict[str, tuple[str, object]] = {}  # of templates: the folder, and which one it was
        self._made = 0
        self._mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # The dynamic linker looks once whether a folder of LD_LIBRARY_PATH is there, and remembers that.
        self._nothing = f"{folder}/nothing"
        os.makedirs(f"{self._nothing}/lib", 0o755)

    def handle(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "trees" in message:
            with socket.socket(fileno=descriptors[0]) as channel:
                self._mount_trees(message["trees"], channel, descriptors[1])
            return
        body, channel_fd, output, *control = descriptors
        channel = socket.socket(fileno=channel_fd)
        try:
            request = wire.read_body(body)
            if request.get("waits"):
                request["task"] = request["opt"] = self._nothing
            root = self._template(request)
            if control:
                self._start_zygote(request, channel, output, control[0], root)
            elif self.fork(request["id"], channel):
                contain.run(request, channel, output, root, self._filter)
        except OSError as error:
            report(channel, f"spawner: {error}")
        finally:
            for descriptor in (output, *control):
                os.close(descriptor)
            channel.close()

    def _template(self, request: dict[str, Any]) -> str:
        if request["root"] is not None:
            self._forget_images()
        key = repr((request["prefixes"], request["etc"], _image(request)))
        if key not in self._templates:
            root = f"{self._folder}/{self._made}"
            self._made += 1
            os.makedirs(root, exist_ok=True)
            try:
                if request["root"] is None:
                    rootfs.build_template(root, request["prefixes"], request["etc"])
                else:
                    rootfs.build_template_of_image(root, request["root"], request["etc"])
            except OSError:
                sys_.detach(root)
                raise
            self._templates[key] = root
            if request["root"] is not None:
                self._images[key] = request["root"], _image(request)
        return self._templates[key]

    def _forget_images(self) -> None:
        """Those that are not there any more; environments have copies of their own."""
        for key, (root, identity) in list(self._images.items()):
            if _identity(root) != identity:
                del self._images[key]
                sys_.detach(self._templates.pop(key))

    def _start_zygote(
        self, request: dict[str, Any], channel: socket.socket, output: int, control: int, root: str
    ) -> None:
        """PID 1 of a PID namespace of its own: its death is that of every environment forked from it."""
        sys_.unshare(sys_.NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                contain.become_zygote(request, channel, output, control, root)
        finally:
            sys_.setns(self._namespace, sys_.NEWPID)
        pidfd = os.pidfd_open(pid)
        try:
            wire.send(channel, {"zygote": pid}, [pidfd])
        except OSError:
            os.kill(pid, signal.SIGKILL)  # the driver gave it up: nobody else will
        finally:
            os.close(pidfd)

    def _mount_trees(self, trees: dict[str, str], channel: socket.socket, process: int) -> None:
        opened: list[int] = []
        try:
            for path in trees.values():
                opened.append(sys_.open_tree(path, rootfs.READ_ONLY))
            sys_.setns(process, sys_.NEWNS)
            try:
                if not trees:
                    for place in rootfs.PLACES:
                        sys_.unmount(place)
                for place, tree in zip(trees, opened, strict=True):
                    sys_.move_tree(tree, place)
            finally:
                self._return()
            wire.send(channel, {"step": "mounted"})
        except OSError as error:
            report(channel, f"file system: {error}")
        finally:
            for descriptor in (*opened, process):
                os.close(descriptor)

    def _return(self) -> None:
        """From an environment's mounts to its own. If it cannot, it ends: it would make others from there."""
        try:
            sys_.setns(self._mounts, sys_.NEWNS)
            os.fchdir(self._root)  # which is not the namespace's where the server runs in a chroot
            os.chroot(".")
        except OSError as error:
            raise RuntimeError(f"it cannot leave an environment's mounts: {error}") from error


def _image(request: dict[str, Any]) -> object:
    return _identity(request["root"]) if request["root"] is not None else None


def _identity(folder: str) -> object:
    """Of a folder, which another one of the same name has not; None if it is gone."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return folder, found.st_dev, found.st_ino, found.st_ctime_ns


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    sys_.unshare(sys_.NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def main(descriptor: int, folder: str, rootless: bool) -> None:
    """The process's whole life. `folder`: an empty one that only it uses, hidden under a tmpfs of its own."""
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if rootless:
            _enter_user_namespace()
        sys_.unshare(sys_.NEWPID | sys_.NEWNS)
        child = os.fork()
        if child:
            wire.send(control, {"spawner": child}, [os.pidfd_open(child)])
            os._exit(0)
        # Unmounts of the host come in, so that nothing of it is kept busy; nothing goes out.
        sys_.mount(None, "/", None, sys_.MS_REC | sys_.MS_SLAVE)
        sys_.mount("lambent", folder, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "size=4m,mode=700")
        Spawner(control, folder).serve()
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        wire.send(control, {"fatal": text, "traceback": traceback.format_exc()})
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "rootless")
