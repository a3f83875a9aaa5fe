"""Stands between a process and the system: sees its file operations in turn, and fails one of them.

Before each listed system call of the first process, Linux asks a second process (seccomp's user
notification), whichever thread makes the call. So operations have one order and one count. strace
can also make the n-th call fail, but it counts each thread and each kind of call by itself.
"""

import ctypes
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Numbers of system calls, and the places of their paths: 'f' is a descriptor, 'p' a path, 'a' a
# descriptor of a folder and a path below it, 'aa' and 'pp' two of them, '-p' a path in the second
# place.
_CALLS = {
  'read': (0, 'f'), 'write': (1, 'f'), 'open': (2, 'p'), 'close': (3, 'f'), 'stat': (4, 'p'),
  'fstat': (5, 'f'), 'lstat': (6, 'p'), 'lseek': (8, 'f'), 'pread64': (17, 'f'),
  'pwrite64': (18, 'f'), 'readv': (19, 'f'), 'writev': (20, 'f'), 'access': (21, 'p'),
  'flock': (73, 'f'), 'fsync': (74, 'f'), 'fdatasync': (75, 'f'), 'truncate': (76, 'p'),
  'ftruncate': (77, 'f'), 'rename': (82, 'pp'), 'mkdir': (83, 'p'), 'rmdir': (84, 'p'),
  'creat': (85, 'p'), 'link': (86, 'pp'), 'unlink': (87, 'p'), 'symlink': (88, '-p'),
  'readlink': (89, 'p'), 'chmod': (90, 'p'), 'fchmod': (91, 'f'), 'getdents64': (217, 'f'),
  'openat': (257, 'a'), 'mkdirat': (258, 'a'), 'newfstatat': (262, 'a'), 'unlinkat': (263, 'a'),
  'renameat': (264, 'aa'), 'linkat': (265, 'aa'), 'readlinkat': (267, 'a'), 'fchmodat': (268, 'a'),
  'faccessat': (269, 'a'), 'utimensat': (280, 'a'), 'fallocate': (285, 'f'), 'preadv': (295, 'f'),
  'pwritev': (296, 'f'), 'renameat2': (316, 'aa'), 'copy_file_range': (326, 'f'),
  'statx': (332, 'a'), 'openat2': (437, 'a'), 'faccessat2': (439, 'a'),
}  # fmt: skip
_NAMES = {number: name for name, (number, _) in _CALLS.items()}
_OPENS = {'open': 1, 'openat': 2}  # the places of their flags
_CHANGES = {
  'write', 'pwrite64', 'writev', 'pwritev', 'fsync', 'fdatasync', 'truncate', 'ftruncate', 'rename',
  'mkdir', 'rmdir', 'creat', 'link', 'unlink', 'symlink', 'chmod', 'fchmod', 'mkdirat', 'unlinkat',
  'renameat', 'linkat', 'fchmodat', 'utimensat', 'fallocate', 'renameat2', 'copy_file_range',
  'openat2',
}  # fmt: skip

_AUDIT_ARCH, _NO_NEW_PRIVILEGES, _SECCOMP, _FILTER, _LISTENER = 0xC000003E, 38, 317, 1, 8
_LOAD, _EQUAL, _RETURN, _ASK, _ALLOW = 0x20, 0x15, 0x06, 0x7FC00000, 0x7FFF0000
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_REQUEST, _ANSWER, _CURRENT_FOLDER = struct.Struct('=QII iIQ6Q'), struct.Struct('=QqiI'), 0xFFFFFF9C
DEATH = -signal.SIGKILL  # instead of the number of an error


class Operation(NamedTuple):
  """A system call on a file.

  Attributes:
    name: of the call.
    paths: the files and folders that it names.
    changes: True where it may change the content of the disk.
  """

  name: str
  paths: tuple[str, ...]
  changes: bool


# Takes an operation; returns the number of an error, 0 to let the operation be, or the negative
# number of a signal that kills the process instead.
Decide = Callable[[Operation], int]


def reason_against() -> str | None:
  """Returns the reason why this machine cannot do it, or None."""
  if platform.system() != 'Linux' or platform.machine() != 'x86_64':
    return 'the numbers of system calls are those of Linux on x86-64'
  # Another process tries it, because an installed filter stays for the life of a process.
  tried = subprocess.run([sys.executable, __file__], stderr=subprocess.DEVNULL)
  return 'seccomp is not available' if tried.returncode else None


def hand_over(channel: socket.socket) -> None:
  """Installs the filter in this process, and sends its descriptor over a socket."""
  socket.send_fds(channel, [b'.'], [_install()])


class Watch:
  """Answers a process that has handed over its descriptor."""

  def __init__(self, channel: socket.socket) -> None:
    """Receives the descriptor; see `hand_over`."""
    self._listener = socket.recv_fds(channel, 1, 1)[1][0]
    self._libc = ctypes.CDLL(None, use_errno=True)

  def close(self) -> None:
    """Ends the answers; further calls of the process fail."""
    os.close(self._listener)

  def until(
    self, channel: socket.socket, decide: Decide | None = None, seconds: float = 300
  ) -> bool:
    """Answers until a socket has something to read.

    Args:
      channel: the socket.
      decide: the answer to each operation; None lets all of them be.
      seconds: the longest time between two operations.

    Returns:
      False where it took too long.
    """
    while True:
      ready = select.select([channel, self._listener], [], [], seconds)[0]
      if not ready:
        return False
      if channel in ready:  # comes first: the descriptor of a dead process is always ready
        return True
      self._answer(decide)

  def _answer(self, decide: Decide | None) -> None:
    """Answers one operation."""
    request = ctypes.create_string_buffer(_REQUEST.size)
    if self._libc.ioctl(self._listener, ctypes.c_ulong(_RECEIVE), request):
      return  # the thread is gone
    number, process, _, call, _, _, *arguments = _REQUEST.unpack(request.raw)
    verdict = decide(_operation(process, call, arguments)) if decide else 0
    if verdict < 0:
      os.kill(process, -verdict)
      return
    answer = _ANSWER.pack(number, 0, -verdict, 0 if verdict else _CONTINUE)
    self._libc.ioctl(self._listener, ctypes.c_ulong(_SEND), ctypes.create_string_buffer(answer))


def _install() -> int:
  """Makes this process ask from now on; returns the descriptor on which someone must answer."""
  code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _AUDIT_ARCH), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
  for number, _ in _CALLS.values():
    code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ASK)]
  packed = b''.join(struct.pack('HBBI', *line) for line in [*code, (_RETURN, 0, 0, _ALLOW)])
  lines = ctypes.create_string_buffer(packed)
  program = struct.pack('HxxxxxxQ', len(packed) // 8, ctypes.addressof(lines))
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
    raise OSError(ctypes.get_errno(), 'prctl')
  listener = libc.syscall(_SECCOMP, _FILTER, _LISTENER, program)
  if listener < 0:
    raise OSError(ctypes.get_errno(), 'seccomp')
  return listener


def _operation(process: int, call: int, arguments: Sequence[int]) -> Operation:
  """Returns the operation that a process is about to do."""
  name = _NAMES[call]
  paths, place = [], 0
  for kind in _CALLS[name][1]:
    if kind == 'f':
      paths.append(_path_of_descriptor(process, arguments[place]))
    elif kind == 'p':
      paths.append(_text_at(process, arguments[place]))
    elif kind == 'a':
      folder, path = arguments[place] & 0xFFFFFFFF, _text_at(process, arguments[place + 1])
      is_inside = folder != _CURRENT_FOLDER and not path.startswith('/')
      paths.append(f'{_path_of_descriptor(process, folder)}/{path}' if is_inside else path)
      place += 1
    place += 1
  flags = arguments[_OPENS[name]] if name in _OPENS else 0
  writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
  return Operation(name, tuple(paths), name in _CHANGES or bool(writes))


def _path_of_descriptor(process: int, number: int) -> str:
  """Returns the path of an open file; empty where there is none."""
  try:
    return os.readlink(f'/proc/{process}/fd/{number & 0x7FFFFFFF}')
  except OSError:
    return ''


def _text_at(process: int, address: int) -> str:
  """Returns the path at an address of a process's memory; empty where there is no such address."""
  try:
    with open(f'/proc/{process}/mem', 'rb', buffering=0) as memory:
      memory.seek(address)
      return memory.read(4096).split(b'\0', 1)[0].decode('utf-8', 'replace')
  except OSError:
    return ''


if __name__ == '__main__':
  _install()
  os._exit(0)  # everything else would wait for an answer
