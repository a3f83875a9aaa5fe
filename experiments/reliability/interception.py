"""Stands between a process and the system: sees its file operations in turn, and fails one of them.

Linux asks a second process (seccomp's user notification) before each system call of the first that
is listed here, whichever thread makes it, so that operations have one order and one count. strace
can make the n-th call fail as well, but counts for each thread and each kind of call by itself.
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
from typing import NamedTuple

# Numbers of system calls, and where their paths are: 'f' a descriptor, 'p' a path, 'a' a descriptor
# of a folder and a path below it, 'aa' and 'pp' two of them, '-p' a path in the second place.
CALLS = {
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
NAMES = {number: name for name, (number, _) in CALLS.items()}
OPENS = {'open': 1, 'openat': 2}  # where their flags are
CHANGES = {
  'write', 'pwrite64', 'writev', 'pwritev', 'fsync', 'fdatasync', 'truncate', 'ftruncate', 'rename',
  'mkdir', 'rmdir', 'creat', 'link', 'unlink', 'symlink', 'chmod', 'fchmod', 'mkdirat', 'unlinkat',
  'renameat', 'linkat', 'fchmodat', 'utimensat', 'fallocate', 'renameat2', 'copy_file_range',
  'openat2',
}  # fmt: skip

AUDIT_ARCH, NO_NEW_PRIVILEGES, SECCOMP, FILTER, LISTENER = 0xC000003E, 38, 317, 1, 8
LOAD, EQUAL, RETURN, ASK, ALLOW = 0x20, 0x15, 0x06, 0x7FC00000, 0x7FFF0000
RECEIVE, SEND, CONTINUE = 0xC0502100, 0xC0182101, 1
REQUEST, ANSWER, CURRENT_FOLDER = struct.Struct('=QII iIQ6Q'), struct.Struct('=QqiI'), 0xFFFFFF9C
DEATH = -signal.SIGKILL  # instead of the number of an error


class Operation(NamedTuple):
  """A system call on a file.

  Attributes:
    changes: whether it may change what is on the disk.
  """

  name: str
  paths: tuple[str, ...]
  changes: bool


def available():
  """Why this machine cannot do it, or None."""
  if platform.system() != 'Linux' or platform.machine() != 'x86_64':
    return 'the numbers of system calls are those of Linux on x86-64'
  # Tried by another process: what has been installed stays for the life of one.
  tried = subprocess.run([sys.executable, __file__], stderr=subprocess.DEVNULL)
  return 'seccomp is not to be had' if tried.returncode else None


def install():
  """From now on this process asks; returns the descriptor on which someone must answer."""
  code = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, AUDIT_ARCH), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 0)]
  for number, _ in CALLS.values():
    code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ASK)]
  packed = b''.join(struct.pack('HBBI', *line) for line in [*code, (RETURN, 0, 0, ALLOW)])
  lines = ctypes.create_string_buffer(packed)
  program = struct.pack('HxxxxxxQ', len(packed) // 8, ctypes.addressof(lines))
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
    raise OSError(ctypes.get_errno(), 'prctl')
  listener = libc.syscall(SECCOMP, FILTER, LISTENER, program)
  if listener < 0:
    raise OSError(ctypes.get_errno(), 'seccomp')
  return listener


def hand_over(channel):
  """Installs in this process, and sends the descriptor over a socket."""
  socket.send_fds(channel, [b'.'], [install()])


class Watch:
  """Answers a process that has handed over its descriptor."""

  def __init__(self, channel):
    self.listener = socket.recv_fds(channel, 1, 1)[1][0]
    self._libc = ctypes.CDLL(None, use_errno=True)

  def close(self):
    os.close(self.listener)

  def until(self, channel, decide=None, seconds=300):
    """Answers until `channel` has something to read; False if that takes too long.

    `decide` takes an `Operation` and returns an error number, 0 to let it be, or a negative number
    of a signal that the process dies of instead.
    """
    while True:
      ready = select.select([channel, self.listener], [], [], seconds)[0]
      if not ready:
        return False
      if channel in ready:  # first: the descriptor of a process that is dead is ready for ever
        return True
      self._answer(decide)

  def _answer(self, decide):
    request = ctypes.create_string_buffer(REQUEST.size)
    if self._libc.ioctl(self.listener, ctypes.c_ulong(RECEIVE), request):
      return  # the thread has gone
    number, process, _, call, _, _, *arguments = REQUEST.unpack(request.raw)
    verdict = decide(operation(process, call, arguments)) if decide else 0
    if verdict < 0:
      os.kill(process, -verdict)
      return
    answer = ANSWER.pack(number, 0, -verdict, 0 if verdict else CONTINUE)
    self._libc.ioctl(self.listener, ctypes.c_ulong(SEND), ctypes.create_string_buffer(answer))


def operation(process, call, arguments):
  """What a process is about to do."""
  name = NAMES[call]
  kinds, paths, place = CALLS[name][1], [], 0
  for kind in kinds:
    if kind == 'f':
      paths.append(of_descriptor(process, arguments[place]))
    elif kind == 'p':
      paths.append(text_at(process, arguments[place]))
    elif kind == 'a':
      folder, path = arguments[place] & 0xFFFFFFFF, text_at(process, arguments[place + 1])
      inside = folder != CURRENT_FOLDER and not path.startswith('/')
      paths.append(f'{of_descriptor(process, folder)}/{path}' if inside else path)
      place += 1
    place += 1
  flags = arguments[OPENS[name]] if name in OPENS else 0
  writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
  return Operation(name, tuple(paths), name in CHANGES or bool(writes))


def of_descriptor(process, number):
  try:
    return os.readlink(f'/proc/{process}/fd/{number & 0x7FFFFFFF}')
  except OSError:
    return ''


def text_at(process, address):
  """The path at an address of a process's memory."""
  try:
    with open(f'/proc/{process}/mem', 'rb', buffering=0) as memory:
      memory.seek(address)
      return memory.read(4096).split(b'\0', 1)[0].decode('utf-8', 'replace')
  except OSError:  # no such address: the call will fail by itself
    return ''


if __name__ == '__main__':
  install()
  os._exit(0)  # whatever else it did would wait for an answer
